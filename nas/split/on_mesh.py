"""The best split of a fixed network by equation (2).

Trunk and tail are chains over devices in line; the branches are given to the children so that the slowest is
as fast as can be (solve_mesh.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.nas.split.links import Array
from jmsnas.nas.split.on_chain import allowed_on_chain, split_on_chain
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.solve_mesh import assign_branches
from jmsnas.topology import WIRE_BYTES, Link

# The raw input of the tail: the sum of the branches' outputs.
JOINED_ENCODING = "joined"


@dataclass(frozen=True, slots=True)
class MeshSplit:
    """The best split of equation (2) part by part.

    Attributes
    ----------
    trunk, tail
        Their costs as chains; `trunk_policy`, `tail_input` and `tail_back_M` are what they are split under.
    before, between, after
        The device of each unit of the trunk, the branches and the tail, by place among all.
    before_s, branch_s, after_s
        Addends of T, seconds.
    children
        Places of the tree's children among the devices.
    to_K, behind_BK, tau_BK
        Seconds from the root to each child, from each child with each branch's output, and of each branch on
        each child; infinite where it may not run.
    """

    trunk: SplitProblem
    tail: SplitProblem
    trunk_policy: str
    tail_back_M: Array
    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    before_s: float
    branch_s: float
    after_s: float
    children: tuple[int, ...]
    to_K: Array
    behind_BK: Array
    tau_BK: Array

    @property
    def latency_s(self) -> float:
        """T of equation (2)."""
        return self.before_s + self.branch_s + self.after_s


def mesh_split(costs: SplitProblem, encoding: str, policy: str, min_layers: int = 0) -> MeshSplit:
    """Find the best split of equation (2) and what it is made of.

    Raises TargetError when no split meets the policy and the limits, NetworkError as `trunk_and_tail`.
    """
    fork, tree = costs.fork, costs.tree
    assert fork and tree, "asked for forks over a mesh only"
    trunk, tail = trunk_and_tail(costs)
    before, before_s = split_on_chain(trunk, encoding, _trunk_policy(policy), min_layers)
    given = branch_times(costs, encoding, policy == "strict")
    children, to_K, behind_BK, tau_BK = given
    branch_s, chosen = assign_branches(tau_BK + behind_BK, to_K, np.zeros(len(children)), tree.fan_out)
    places = [costs.names.index(name) for name in tail.names]
    back_M = costs.back_M[places]
    after, after_s = split_on_chain(tail, JOINED_ENCODING, policy, back_M=back_M)
    return MeshSplit(
        trunk,
        tail,
        _trunk_policy(policy),
        back_M,
        tuple(costs.names.index(trunk.names[m]) for m in before),
        tuple(children[k] for k, branch in zip(chosen, fork.branches, strict=True) for _ in branch),
        tuple(places[m] for m in after),
        before_s,
        branch_s,
        after_s,
        children,
        to_K,
        behind_BK,
        tau_BK,
    )


def split_on_mesh(
    costs: SplitProblem, encoding: str, policy: str, min_layers: int = 0
) -> tuple[tuple[int, ...], float]:
    """Find the device of each unit, and T of equation (2), seconds, which no split of it is below.

    Raises as `mesh_split`.
    """
    parts = mesh_split(costs, encoding, policy, min_layers)
    return (*parts.before, *parts.between, *parts.after), parts.latency_s


def _trunk_policy(policy: str) -> str:
    """Give the policy of the trunk: its output must reach the root."""
    return "strict" if policy == "strict" else "relay"


def allowed_on_mesh(
    costs: SplitProblem, encoding: str, policy: str, min_layers: int, devices: Sequence[int]
) -> bool:
    """Whether a placement is one of equation (2) that keeps the policy and the limits."""
    fork, tree = costs.fork, costs.tree
    assert fork and tree, "asked for forks over a mesh only"
    names = [costs.names[m] for m in devices]
    used = [set(names[branch.start : branch.stop]) for branch in fork.branches]
    trunk, tail = trunk_and_tail(costs)
    parts = ((trunk, fork.trunk, encoding, min_layers), (tail, fork.tail, JOINED_ENCODING, 0))
    for part, units, own_encoding, least in parts:
        own = names[units.start : units.stop]
        if not set(own) <= set(part.names):
            return False
        placed = [part.names.index(name) for name in own]
        own_policy = _trunk_policy(policy) if part is trunk else policy
        if placed != sorted(placed) or not allowed_on_chain(part, own_encoding, own_policy, least, placed):
            return False
    every = [name for own in used for name in own]
    if len(every) > len(used) or len(set(every)) < len(used) or not set(every) <= set(tree.children):
        return False
    children = [costs.names.index(name) for name in tree.children]
    free_BK = _allowed_BK(costs, encoding, children)
    kept = all(free_BK[b, tree.children.index(name)] for b, name in enumerate(every))
    return kept and (policy != "strict" or len(every) == len(children))


def trunk_and_tail(costs: SplitProblem) -> tuple[SplitProblem, SplitProblem]:
    """Give the costs of the trunk, over the devices up to the root, and of the tail, over those behind.

    The tail's raw input is the sum of the branches' outputs. Raises NetworkError where they cannot be summed
    and more than one device stands behind the branches.
    """
    fork, tree = costs.fork, costs.tree
    assert fork and tree, "asked for forks over a mesh only"
    line = [m for m, name in enumerate(costs.names) if name not in tree.children]
    root = line.index(costs.names.index(tree.root)) + 1
    sizes = {float(costs.output_bytes_N[branch[-1]]) for branch in fork.branches}
    if len(sizes) > 1 and len(line) > root + 1:
        raise TopologyError(
            f"the branches of {costs.network} end in {', '.join(f'{size:.0f}' for size in sorted(sizes))} "
            "bytes, and are summed before they are sent on: expected one size"
        )
    trunk = _part(costs, fork.trunk, line[:root], costs.input_bytes)
    return trunk, _part(costs, fork.tail, line[root:], {JOINED_ENCODING: max(sizes)})


def _part(
    costs: SplitProblem, units: range, devices: Sequence[int], inputs: Mapping[str, float]
) -> SplitProblem:
    rows, columns = slice(units.start, units.stop), list(devices)
    names = [costs.names[m] for m in columns]
    hops = list(zip(names, names[1:], strict=False))
    # As float32, so that a sum of outputs, here the raw input, takes as long as any output.
    links = [
        Link(k.source, k.target, k.capacity_bps * WIRE_BYTES["float32"] / WIRE_BYTES[k.wire], k.delay_s)
        if JOINED_ENCODING in inputs
        else k
        for k in costs.links
        if (k.source, k.target) in hops
    ]
    return replace(
        costs,
        units=costs.units[rows],
        devices=tuple(costs.devices[m] for m in columns),
        tau_NM=costs.tau_NM[rows, columns],
        low_NM=costs.low_NM[rows, columns],
        high_NM=costs.high_NM[rows, columns],
        output_bytes_N=costs.output_bytes_N[rows],
        input_bytes=inputs,
        links=tuple(links),
        inputs=tuple((n,) for n in range(len(units))),
        weight_bytes_N=costs.weight_bytes_N[rows],
        peak_bytes_N=costs.peak_bytes_N[rows],
        tree=None,
        returns=False,
    )


def branch_times(
    costs: SplitProblem, encoding: str, strict: bool
) -> tuple[tuple[int, ...], Array, Array, Array]:
    """Give the children, and what `MeshSplit` says of the branches on them.

    Raises TargetError when the policy `strict` leaves a child without a branch.
    """
    fork, tree = costs.fork, costs.tree
    assert fork and tree, "asked for forks over a mesh only"
    if strict and len(tree.children) > len(fork.branches):
        raise InfeasibleError(
            f"policy strict gives each of {len(tree.children)} children a branch, {costs.network} has "
            f"{len(fork.branches)}: expected fewer children, or --policy relay"
        )
    children = [costs.names.index(name) for name in tree.children]
    to_K, behind_BK = _sending(costs, encoding, children)
    tau_BK = _sums(costs.tau_NM, fork.branches)[:, children]
    tau_BK[~_allowed_BK(costs, encoding, children)] = np.inf
    return tuple(children), to_K, behind_BK, tau_BK


def _sending(costs: SplitProblem, encoding: str, children: Sequence[int]) -> tuple[Array, Array]:
    """Seconds from the root to each child, and from each child with each branch's output."""
    fork, tree, arrays, sent_bytes_L = costs.fork, costs.tree, costs.arrays, costs.sent_bytes_L(encoding)
    assert fork and tree, "asked for forks over a mesh only"
    root = costs.names.index(tree.root)
    behind = next(m for m in range(root + 1, costs.M) if m not in children)
    to_K = arrays.epsilon_MM(float(sent_bytes_L[fork.trunk.stop]))[root, children]
    sizes = [float(sent_bytes_L[branch.stop]) for branch in fork.branches]
    return to_K, np.array([arrays.epsilon_MM(size)[children, behind] for size in sizes])


def _sums(use_NM: Array, branches: Sequence[range]) -> Array:
    return np.array([use_NM[branch.start : branch.stop].sum(0) for branch in branches])


def _allowed_BK(costs: SplitProblem, encoding: str, children: Sequence[int]) -> NDArray[np.bool_]:
    """Whether a child may run a branch: its layers, memory and joules."""
    fork = costs.fork
    assert fork, "asked for forks over a mesh only"
    _, behind_BK = _sending(costs, encoding, children)
    memory_B1 = _sums(costs.weight_bytes_N[:, None], fork.branches)
    peaks = [costs.peak_bytes_N[branch.start : branch.stop].max() for branch in fork.branches]
    memory_B1 = memory_B1 + np.array(peaks)[:, None]
    energy_BK = (
        _sums(costs.joules_NM, fork.branches)[:, children] + behind_BK * costs.send_power_w_M[children]
    )
    lengths_B1 = np.array([[len(branch)] for branch in fork.branches])
    own = [costs.devices[m] for m in children]
    most_K, room_K, joules_K = (
        np.array([np.inf if limit is None else limit for limit in limits]) * (1 + 1e-12)
        for limits in (
            [d.max_layers for d in own],
            [d.memory_bytes for d in own],
            [d.energy_j for d in own],
        )
    )
    counts_BK = (np.array([d.min_layers for d in own]) <= lengths_B1) & (lengths_B1 <= most_K)
    free_BK: NDArray[np.bool_] = counts_BK & (memory_B1 <= room_K) & (energy_BK <= joules_K)
    return free_BK
