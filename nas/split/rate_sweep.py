"""Optimal plans as functions of one link's rate: switching rates, least worst case, and least regret.

On a chain of devices the link carries one output, that of cut c, so T of the best plan with that cut is
a line in 1/rate: ``T_c(rate) = A_c + B_c / rate``; N + 1 lines hold every plan that is the best at some rate.
On a mesh the same holds for a link of the trunk or the tail. A link to or from a child adds to T only where
its branch is the slowest: ``T(rate) = A + max(C, B / rate)``, one such line for each assignment of branches
to children that no other beats. The sweep is arithmetic on these lines, hence exact.
"""

import itertools
import re
from dataclasses import dataclass, replace

import numpy as np

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.errors import InfeasibleError, InputError, TopologyError
from jmsnas.nas.split.chain_and_mesh import (
    JOINED_ENCODING,
    BranchTimes,
    MeshSplit,
    devices_of_branches,
    fork_and_tree,
    mesh_split,
)
from jmsnas.nas.split.methods import SplitRequest
from jmsnas.nas.split.problem import SplitProblem, with_link_rate
from jmsnas.nas.split.solve_chain import solve_chain
from jmsnas.units import parse_rate

# At this rate T is A alone, to the last digit.
_UNLIMITED_BPS = 1e18
# Eight branches on eight children have 40,320 assignments; more are not enumerated.
_MAX_ASSIGNMENTS = 50_000
_RANGE = re.compile(r"rate(?::([\w-]+)(?::([\w-]+))?)?=([-+0-9.eE]+)\.\.([-+0-9.eE]+)\s*([a-zA-Z/]+)")


@dataclass(frozen=True, slots=True)
class RateLine:
    """T of a plan as a function of the link's rate: T = fixed_s + max(floor_s, sent_bits / rate).

    `cut` is the output that the link carries, None for a link to or from a child of a tree; `devices` runs
    each unit; `floor_s` is the time of the slowest other branch beyond that of this link's branch without
    the link.
    """

    cut: int | None
    fixed_s: float
    sent_bits: float
    devices: tuple[int, ...]
    floor_s: float = 0.0

    def latency_s(self, rate_bps: float) -> float:
        """T at a rate, seconds."""
        return self.fixed_s + max(self.floor_s, self.sent_bits / rate_bps)


@dataclass(frozen=True, slots=True)
class RateSweep:
    """The best plan at every rate of a range, and the plans to choose when the rate is unknown.

    `switches` are (from_bps, line) by rising rates: the line is the best up to the next one. `worst_case`
    has the least T at the worst rate of the range; `least_regret` loses least against the best plan at any
    rate.
    """

    link: str
    low_bps: float
    high_bps: float
    switches: tuple[tuple[float, RateLine], ...]
    worst_case: RateLine
    least_regret: RateLine
    regret_s: float


def parse_rate_sweep(text: str, problem: SplitProblem) -> tuple[int, float, float]:
    """Parse `rate=1..200Mbit/s`, `rate:laptop=...` (the link from laptop) or `rate:laptop:mbs1=...`.

    Returns the index of the link among those of the problem, and the rates in bits per second. Raises
    InputError when it cannot be parsed, a rate is 0, or no link or several match.
    """
    match = _RANGE.fullmatch(text.strip())
    if not match:
        raise InputError(f"cannot read --sweep {text!r}: expected a range such as rate=1..200Mbit/s")
    low, high = (parse_rate(f"{number}{match[5]}") for number in (match[3], match[4]))
    if not 0 < low < high:
        raise InputError(f"--sweep {text!r} goes from {low:g} to {high:g} bit/s: expected 0 < low < high")
    return find_link(problem, match[1], match[2]), low, high


def find_link(problem: SplitProblem, source: str | None = None, target: str | None = None) -> int:
    """Find the index of the one link from a device (None: the first), to `target` unless that is None.

    Raises InputError.
    """
    source = source or problem.names[0]
    links = problem.links
    found = [k for k, link in enumerate(links) if link.source == source and target in (None, link.target)]
    if len(found) == 1:
        return found[0]
    if found:
        choices = ", ".join(f"rate:{source}:{links[k].target}" for k in found)
        raise InputError(f"several links start at {source!r}: expected one of {choices}")
    sources = dict.fromkeys(link.source for link in links)
    known = [link.target for link in links if link.source == source] if target else list(sources)
    raise InputError(
        f"no link from {source!r}{f' to {target!r}' if target else ''}, expected one of "
        f"{', '.join(known) or 'none: a topology of one device has no link'}"
    )


def sweep_rate(
    problem: SplitProblem, request: SplitRequest, link: int, low_bps: float, high_bps: float
) -> RateSweep:
    """Find the best plan at every rate of a range, and the plans to choose when the rate is unknown."""
    lines = rate_lines(problem, request, link)
    switches = [(low_bps, _best(lines, low_bps))]
    while True:
        at_bps, current = switches[-1]
        ahead = [
            (rate, other)
            for other in lines
            if (rate := _overtakes(other, current, at_bps)) is not None and rate < high_bps
        ]
        if not ahead:
            break
        # Of several that cross at one rate, the one that is the best just above it.
        first = min(rate for rate, _ in ahead)
        level = [other for rate, other in ahead if rate <= first * (1 + 1e-12)]
        above = first * (1 + 1e-9)
        switches.append((first, min(level, key=lambda line: (line.latency_s(above), line.fixed_s))))
    # T of a line less that of the best is straight between these rates: the regret is largest at one of them.
    bends = [line.sent_bits / line.floor_s for line in lines if line.floor_s]
    rates = [low_bps, high_bps, *(bps for bps, _ in switches), *(r for r in bends if low_bps < r < high_bps)]
    best = [_best(lines, rate).latency_s(rate) for rate in rates]

    def regret(line: RateLine) -> float:
        return max(line.latency_s(rate) - least for rate, least in zip(rates, best, strict=True))

    least_regret = min(lines, key=regret)
    return RateSweep(
        link=f"{problem.links[link].source} -> {problem.links[link].target}",
        low_bps=low_bps,
        high_bps=high_bps,
        switches=tuple(switches),
        worst_case=switches[0][1],  # T falls with the rate: the worst rate is the lowest
        least_regret=least_regret,
        regret_s=regret(least_regret),
    )


def _overtakes(other: RateLine, current: RateLine, at_bps: float) -> float | None:
    """Least rate above `at_bps` from which `other` is below `current`; None where there is none."""
    bends = sorted(line.sent_bits / line.floor_s for line in (other, current) if line.floor_s)
    edges = [at_bps, *(rate for rate in bends if rate > at_bps), np.inf]
    for left, right in itertools.pairwise(edges):
        ahead = other.latency_s(left) - current.latency_s(left)
        later = other.latency_s(right) - current.latency_s(right)
        tiny = 1e-13 * current.latency_s(left)
        if later < -tiny and (ahead > tiny or left > at_bps):
            # Straight in 1/rate between the two.
            share = max(ahead, 0.0) / (max(ahead, 0.0) - later)
            inverse = (1 - share) / left + share / right
            rate = 1 / inverse if inverse else np.inf
            return float(rate) if rate > at_bps * (1 + 1e-12) else None
    return None


def _best(lines: tuple[RateLine, ...], rate_bps: float) -> RateLine:
    return min(lines, key=lambda line: (line.latency_s(rate_bps), line.latency_s(rate_bps * (1 + 1e-9))))


def rate_lines(problem: SplitProblem, request: SplitRequest, link: int) -> tuple[RateLine, ...]:
    """Find every plan that may be the best at some rate of a link, as lines in 1/rate.

    `link` is an index into `problem.links`; a result that is sent back over it is counted. Raises
    TopologyError for a topology that is neither a chain nor a mesh with a child for each branch,
    InfeasibleError when the policy allows no plan at all.
    """
    if problem.fork:
        lines = _mesh_lines(problem, request, link)
    elif problem.is_chain_topology and problem.is_chain and problem.links:
        lines = _chain_lines(problem, request.encoding, request.policy, request.min_layers, link)
    else:
        raise TopologyError(
            f"{problem.model} on {', '.join(problem.names)}: a sweep needs a chain of layers on a chain of "
            "two devices or more, or a model with a branch for each child of a mesh; elsewhere an output may "
            "take several routes"
        )
    if not lines:
        raise InfeasibleError(
            f"no split of {problem.model} is allowed by policy {request.policy} and the limits"
        )
    return tuple(lines)


def link_bits(problem: SplitProblem, link: int, output: int, encoding: str) -> float:
    """Bits that a link carries for an output (0: the raw input), in the link's number format."""
    own, size = problem.links[link], float(problem.sent_bytes_L(encoding)[output])
    hop = problem.names.index(own.source), problem.names.index(own.target)
    epsilon_s = problem.link_arrays.epsilon_MM(size, output == 0)[hop]
    return float((epsilon_s - own.delay_s) * own.capacity_bps)


def _chain_lines(
    problem: SplitProblem,
    encoding: str,
    policy: str,
    min_layers: int,
    link: int,
    return_M: FloatArray | None = None,
) -> list[RateLine]:
    """Find the best plan for each output a link may carry; `return_M` as in `split_on_chain`."""
    m = problem.names.index(problem.links[link].source)
    unlimited = with_link_rate(problem, _UNLIMITED_BPS, link)
    epsilon_LM, limits = unlimited.epsilon_LM(encoding), problem.limits(encoding, min_layers)
    return_M = unlimited.return_M if return_M is None else return_M
    return_bits = link_bits(problem, link, problem.N, encoding) if problem.returns else 0.0
    lines = []
    for cut in range(problem.N + 1):
        only_LM = epsilon_LM.copy()
        only_LM[np.arange(problem.N + 1) != cut, m] = np.inf
        try:
            fixed_s, placement = solve_chain(
                problem.tau_NM, only_LM, policy, limits, return_M, problem.call_M
            )
        except InfeasibleError:
            continue
        stays = policy == "stop-early" and cut == problem.N
        bits = 0.0 if stays else link_bits(problem, link, cut, encoding) + return_bits
        lines.append(RateLine(cut, fixed_s, bits, placement.devices))
    return lines


def _mesh_lines(problem: SplitProblem, request: SplitRequest, link: int) -> list[RateLine]:
    swept, (_, tree) = problem.links[link], fork_and_tree(problem)
    asked = request.encoding, request.policy, request.min_layers, request.left_s
    parts = mesh_split(problem, *asked)
    in_trunk = swept.source in parts.trunk.names and swept.source != tree.root
    if problem.returns and not in_trunk:
        raise TopologyError(
            f"the result may go back over {swept.source} -> {swept.target} or by another route, depending on "
            "the rate: expected --sweep over a link before the tree's root, or a topology without `return`"
        )
    if swept.source == tree.root or swept.source in tree.children:
        return _branch_lines(problem, parts, link, request.encoding)
    part, encoding, policy, min_layers = (
        (parts.trunk, request.encoding, parts.trunk_policy, request.min_layers)
        if in_trunk
        else (parts.tail, JOINED_ENCODING, request.policy, 0)
    )
    own = next(
        k for k, one in enumerate(part.links) if (one.source, one.target) == (swept.source, swept.target)
    )
    # The part's own link may have another number format (see `trunk_and_tail`): its bits are scaled.
    scale = swept.capacity_bps / part.links[own].capacity_bps
    rest_s = parts.latency_s - (parts.trunk_s if in_trunk else parts.tail_s)
    return_bits = link_bits(problem, link, problem.N, request.encoding) if problem.returns else 0.0
    first = 0 if in_trunk else len(parts.trunk_devices) + len(parts.branch_devices)
    found = []
    for line in _chain_lines(part, encoding, policy, min_layers, own, np.zeros(part.M)):
        placed = tuple(problem.names.index(part.names[m]) for m in line.devices)
        before, after = (placed, parts.tail_devices) if in_trunk else (parts.trunk_devices, placed)
        found.append(
            RateLine(
                cut=None if line.cut is None else line.cut + first,
                fixed_s=line.fixed_s + rest_s - return_bits / swept.capacity_bps,
                sent_bits=line.sent_bits * scale + return_bits,
                devices=(*before, *parts.branch_devices, *after),
            )
        )
    return found


def _branch_lines(problem: SplitProblem, parts: MeshSplit, link: int, encoding: str) -> list[RateLine]:
    """Find the lines of all assignments of branches to children that no other beats."""
    (fork, tree), swept = fork_and_tree(problem), problem.links[link]
    B, K = len(fork.branches), len(tree.children)
    every = itertools.islice(itertools.permutations(range(K), B), _MAX_ASSIGNMENTS + 1)
    children_PB = np.array(list(every))
    orders = B if tree.fan_out == "serial" else 1
    if len(children_PB) * orders > _MAX_ASSIGNMENTS:
        raise TopologyError(
            f"a sweep enumerates all assignments of {B} branches to {K} children, more than "
            f"{_MAX_ASSIGNMENTS}: expected fewer children"
        )
    to_child = swept.source == tree.root
    child = tree.children.index(swept.target if to_child else swept.source)
    order_PB = np.tile(np.arange(B), (len(children_PB), 1))
    if tree.fan_out == "serial":
        children_PB, order_PB = _sending_orders(parts.branches, children_PB, None if to_child else child)
    with_link_P, without_link_P = _branch_ends(problem, parts, link, child, children_PB, order_PB)
    sent = [fork.trunk.stop if to_child else branch.stop for branch in fork.branches]
    bits_B = np.array([link_bits(problem, link, output, encoding) for output in sent])
    own_PB = children_PB == child
    bits_P = np.where(own_PB.any(axis=1), bits_B[own_PB.argmax(axis=1)], 0.0)
    lines = []
    for children, with_link_s, without_link_s, bits in zip(
        children_PB.tolist(), with_link_P.tolist(), without_link_P.tolist(), bits_P.tolist(), strict=True
    ):
        branch_s, floor_s = with_link_s, max(0.0, without_link_s - with_link_s)
        if with_link_s == -np.inf:
            branch_s, bits, floor_s = without_link_s, 0.0, 0.0
        if max(with_link_s, without_link_s) < np.inf:
            lines.append(RateLine(None, branch_s, bits, tuple(children), floor_s))
    return [
        replace(
            line,
            fixed_s=line.fixed_s + parts.trunk_s + parts.tail_s,
            devices=(
                *parts.trunk_devices,
                *devices_of_branches(fork, [parts.branches.children[k] for k in line.devices]),
                *parts.tail_devices,
            ),
        )
        for line in _undominated(lines)
    ]


def _sending_orders(
    times: BranchTimes, children_PB: IntArray, moved: int | None
) -> tuple[IntArray, IntArray]:
    """Order the branches of each assignment by falling tail (see serial/fan_out.py), one copy after another.

    The tail on child `moved` depends on the rate: each assignment is repeated with its branch at every place.
    Returns the assignments and the orders, (P, B) each.
    """
    P, B = children_PB.shape
    tail_BK = times.tau_BK + times.to_join_BK
    place_PB = np.argsort(np.argsort(-tail_BK[np.arange(B), children_PB], axis=1, kind="stable"), axis=1)
    if moved is None:
        return children_PB, np.argsort(place_PB, axis=1)
    children_PB, place_PB = np.tile(children_PB, (B, 1)), np.tile(place_PB, (B, 1))
    own_PB = children_PB == moved
    # The others keep their order: places 0, 1, ... without the moved one, which goes before place 0, 1, ...
    place_PB -= place_PB > np.where(own_PB, place_PB, B).min(axis=1, keepdims=True)
    before_P1 = np.repeat(np.arange(B), P)[:, None] - 0.5
    return children_PB, np.argsort(np.where(own_PB, before_P1, place_PB), axis=1)


def _branch_ends(
    problem: SplitProblem,
    parts: MeshSplit,
    link: int,
    child: int,
    children_PB: IntArray,
    order_PB: IntArray,
) -> tuple[FloatArray, FloatArray]:
    """Seconds of the slowest branch that waits for a link (without its bits), and of the slowest other one.

    Of P assignments, (P,) each; -inf where no branch is of that kind. `order_PB`: branches in the order of
    sending with serial fan-out.
    """
    (_, tree), times, delay_s = fork_and_tree(problem), parts.branches, problem.links[link].delay_s
    to_child, serial = problem.links[link].source == tree.root, tree.fan_out == "serial"
    to_child_K, to_join_BK = times.to_child_K.copy(), times.to_join_BK.copy()
    # At an unlimited rate only the delay is left.
    if to_child:
        to_child_K[child] = delay_s
    else:
        to_join_BK[:, child] = delay_s
    P, B = children_PB.shape
    rows, columns = np.arange(P)[:, None], np.arange(B)
    arrived_PB, waits_PB = to_child_K[children_PB], children_PB == child
    if serial:
        arrived_PB[rows, order_PB] = np.cumsum(arrived_PB[rows, order_PB], axis=1)
    ends_PB = arrived_PB + times.tau_BK[columns, children_PB] + to_join_BK[columns, children_PB]
    if to_child and serial:  # the later copies wait for this one
        waits_PB[rows, order_PB] = np.logical_or.accumulate(waits_PB[rows, order_PB], axis=1)
    with_link_P: FloatArray = np.where(waits_PB, ends_PB, -np.inf).max(axis=1)
    without_link_P: FloatArray = np.where(waits_PB, -np.inf, ends_PB).max(axis=1)
    return with_link_P, without_link_P


def _undominated(lines: list[RateLine]) -> list[RateLine]:
    """Drop lines that another one is never above; of equal ones the first is kept."""
    found: list[RateLine] = []
    for line in sorted(lines, key=lambda line: (line.fixed_s, line.sent_bits, line.floor_s)):
        dominated = any(
            other.sent_bits <= line.sent_bits and other.fixed_s + other.floor_s <= line.fixed_s + line.floor_s
            for other in found
        )
        if not dominated:
            found.append(line)
    return found
