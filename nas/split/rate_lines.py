"""T of the best plans as lines in 1/rate of one link: what a sweep over the rate walks.

On devices in line the link carries one output, that of cut c, so T of the best plan with that cut is a line:
``T_c(rate) = A_c + B_c / rate``; N + 1 of them hold every plan that is the best at some rate. On a mesh the
same holds for a link of the trunk or the tail. A link to or from a child of the tree is waited for only where
its branch is the slowest: ``T(rate) = A + max(C, B / rate)``, one such line for each way to give the branches
their children that no other beats in both.
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np

from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.nas.split.links import Array
from jmsnas.nas.split.methods import SplitRequest
from jmsnas.nas.split.on_mesh import JOINED_ENCODING, MeshSplit, mesh_split
from jmsnas.nas.split.problem import SplitProblem, with_link_rate
from jmsnas.nas.split.solve_chain import solve_chain

# T at this rate is A alone, to the last digit that is read.
_ENDLESS_BPS = 1e18
# Eight branches on eight children are 40,320 ways; more are not gone through.
_MOST_WAYS = 50_000


@dataclass(frozen=True, slots=True)
class RateLine:
    """The best plan of a kind: T = fixed_s + max(floor_s, sent_bits / rate).

    `cut` is the output the link carries, None for a link to or from a child of a tree; `devices` runs each
    unit; `floor_s` is what the other branches take longer than this link's branch without the link.
    """

    cut: int | None
    fixed_s: float
    sent_bits: float
    devices: tuple[int, ...]
    floor_s: float = 0.0

    def latency_s(self, rate_bps: float) -> float:
        """T at a rate, seconds."""
        return self.fixed_s + max(self.floor_s, self.sent_bits / rate_bps)


def rate_lines(costs: SplitProblem, request: SplitRequest, link: int) -> tuple[RateLine, ...]:
    """Give the best plans as the rate of a link changes; a result that goes back over it is counted.

    Parameters
    ----------
    link
        Place of the link among those of the costs.

    Raises
    ------
    NetworkError
        For a graph of devices that is neither a line nor a mesh with a child for each branch.
    TargetError
        When the policy allows no plan at all.
    """
    encoding, policy, least = request.encoding, request.policy, request.min_layers
    if costs.fork:
        lines = _on_tree(costs, request, link)
    elif costs.is_chain_topology and costs.is_chain and costs.links:
        lines = _on_line(costs, encoding, policy, least, link)
    else:
        raise TopologyError(
            f"{costs.network} on {', '.join(costs.names)}: a sweep needs a chain of layers over two or more "
            "devices in line, or a network with a branch for each child of a mesh: elsewhere an output may "
            "take several ways"
        )
    if not lines:
        raise InfeasibleError(f"no split of {costs.network} is allowed by policy {policy} and the limits")
    return tuple(lines)


def link_bits(costs: SplitProblem, link: int, output: int, encoding: str) -> float:
    """Bits that a link carries for an output (0: the raw input), in the link's number format."""
    its, size = costs.links[link], float(costs.sent_bytes_L(encoding)[output])
    hop = costs.names.index(its.source), costs.names.index(its.target)
    return float((costs.arrays.epsilon_MM(size, output == 0)[hop] - its.delay_s) * its.capacity_bps)


def _on_line(
    costs: SplitProblem,
    encoding: str,
    policy: str,
    min_layers: int,
    link: int,
    back_M: Array | None = None,
) -> list[RateLine]:
    """Give the best plan for each output a link may carry; `back_M` as in `split_on_chain`."""
    m = costs.names.index(costs.links[link].source)
    endless = with_link_rate(costs, _ENDLESS_BPS, link)
    epsilon_LM, limits = endless.epsilon_LM(encoding), costs.limits(encoding, policy, min_layers)
    back_M = endless.back_M if back_M is None else back_M
    back_bits = link_bits(costs, link, costs.N, encoding) if costs.returns else 0.0
    lines = []
    for cut in range(costs.N + 1):
        only_LM = epsilon_LM.copy()
        only_LM[np.arange(costs.N + 1) != cut, m] = np.inf
        try:
            fixed_s, placement = solve_chain(costs.tau_NM, only_LM, policy, limits, back_M)
        except InfeasibleError:
            continue
        stays = policy == "stop-early" and cut == costs.N
        bits = 0.0 if stays else link_bits(costs, link, cut, encoding) + back_bits
        lines.append(RateLine(cut, fixed_s, bits, placement.devices))
    return lines


def _on_tree(costs: SplitProblem, request: SplitRequest, link: int) -> list[RateLine]:
    its, tree = costs.links[link], costs.tree
    assert tree, "asked for forks over a mesh only"
    parts = mesh_split(costs, request.encoding, request.policy, request.min_layers)
    in_trunk = its.source in parts.trunk.names and its.source != tree.root
    if costs.returns and not in_trunk:
        raise TopologyError(
            f"the result goes back over {its.source} -> {its.target} or beside it, as the rate says: "
            "expected --sweep over a link before the tree's root, or a network without `return`"
        )
    if its.source == tree.root or its.source in tree.children:
        return _on_branches(costs, parts, link)
    part, encoding, policy, least = (
        (parts.trunk, request.encoding, parts.trunk_policy, request.min_layers)
        if in_trunk
        else (parts.tail, JOINED_ENCODING, request.policy, 0)
    )
    own = next(k for k, one in enumerate(part.links) if (one.source, one.target) == (its.source, its.target))
    # The part's own link may be told in another number format (see `trunk_and_tail`): its bits are scaled.
    scale = its.capacity_bps / part.links[own].capacity_bps
    rest_s = parts.latency_s - (parts.before_s if in_trunk else parts.after_s)
    back_bits = link_bits(costs, link, costs.N, request.encoding) if costs.returns else 0.0
    first = 0 if in_trunk else len(parts.before) + len(parts.between)
    found = []
    for line in _on_line(part, encoding, policy, least, own, np.zeros(part.M)):
        placed = tuple(costs.names.index(part.names[m]) for m in line.devices)
        before, after = (placed, parts.after) if in_trunk else (parts.before, placed)
        found.append(
            RateLine(
                None if line.cut is None else line.cut + first,
                line.fixed_s + rest_s - back_bits / its.capacity_bps,
                line.sent_bits * scale + back_bits,
                (*before, *parts.between, *after),
            )
        )
    return found


def _on_branches(costs: SplitProblem, parts: MeshSplit, link: int) -> list[RateLine]:
    """Go through all ways to give the branches their children; keep those that none beats."""
    fork, tree, its = costs.fork, costs.tree, costs.links[link]
    assert fork and tree, "asked for forks over a mesh only"
    B, K, to_child = len(fork.branches), len(tree.children), its.source == tree.root
    ways_PB = np.array(list(itertools.islice(itertools.permutations(range(K), B), _MOST_WAYS + 1)))
    if len(ways_PB) > _MOST_WAYS:
        raise TopologyError(
            f"a sweep goes through all ways to give {B} branches to {K} children, more than {_MOST_WAYS}: "
            "expected fewer children"
        )
    child = tree.children.index(its.target if to_child else its.source)
    to_K, behind_BK = parts.to_K.copy(), parts.behind_BK.copy()
    # At an endless rate only the delay is left.
    if to_child:
        to_K[child] = its.delay_s
    else:
        behind_BK[:, child] = its.delay_s
    rows, at = np.arange(len(ways_PB))[:, None], np.arange(B)
    used_PK = np.zeros((len(ways_PB), K), dtype=bool)
    used_PK[rows, ways_PB] = True
    serial = tree.fan_out == "serial"
    arrived_PK = np.cumsum(used_PK * to_K, axis=1) if serial else np.broadcast_to(to_K, used_PK.shape)
    ends_PB = arrived_PK[rows, ways_PB] + parts.tau_BK[at, ways_PB] + behind_BK[at, ways_PB]
    over_PB = ways_PB == child
    if to_child and serial:  # the copies behind it wait for it
        over_PB = used_PK[:, [child]] & (ways_PB >= child)
    free_P = np.where(over_PB, -np.inf, ends_PB).max(axis=1)
    held_P = np.where(over_PB, ends_PB, -np.inf).max(axis=1)
    carried_B = [fork.trunk.stop if to_child else branch.stop for branch in fork.branches]
    bits_B = np.array([link_bits(costs, link, output, next(iter(costs.input_bytes))) for output in carried_B])
    bits_P = np.where(used_PK[:, child], bits_B[(ways_PB == child).argmax(axis=1)], 0.0)
    lines = [
        RateLine(None, held, bits, tuple(way), max(0.0, free - held))
        if held > -np.inf
        else RateLine(None, free, 0.0, tuple(way))
        for way, free, held, bits in zip(
            ways_PB.tolist(), free_P.tolist(), held_P.tolist(), bits_P.tolist(), strict=True
        )
        if max(free, held) < np.inf
    ]
    return [
        replace(
            line,
            fixed_s=line.fixed_s + parts.before_s + parts.after_s,
            devices=(
                *parts.before,
                *(parts.children[k] for k, own in zip(line.devices, fork.branches, strict=True) for _ in own),
                *parts.after,
            ),
        )
        for line in _unbeaten(lines)
    ]


def _unbeaten(lines: list[RateLine]) -> list[RateLine]:
    """Leave out lines that another one is nowhere above; of equal ones the first is kept."""
    kept: list[RateLine] = []
    for line in sorted(lines, key=lambda its: (its.fixed_s, its.sent_bits, its.floor_s)):
        beaten = any(
            its.sent_bits <= line.sent_bits and its.fixed_s + its.floor_s <= line.fixed_s + line.floor_s
            for its in kept
        )
        if not beaten:
            kept.append(line)
    return kept
