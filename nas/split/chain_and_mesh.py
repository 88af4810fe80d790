"""Optimal splits of a problem on a chain of devices by equation (1), and on a mesh by equation (2).

On a mesh the trunk and the tail of the model are chains over the devices before and after the branches; the
branches are assigned to the children of the tree so that the slowest is as fast as possible (solve_mesh.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray
from jmsnas.errors import InfeasibleError
from jmsnas.nas.graph.fork_join import ForkJoin, MeshTree
from jmsnas.nas.split.placement import placement_from_devices
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.shared_weights import regroup
from jmsnas.nas.split.solve_chain import solve_chain
from jmsnas.nas.split.solve_mesh import assign_branches
from jmsnas.nas.split.throughput import chain_period, solve_throughput
from jmsnas.topology import WIRE_BYTES, Link

# Encoding of the tail's input: the joined outputs of the branches.
JOINED_ENCODING = "joined"


def split_on_chain(
    problem: SplitProblem,
    encoding: str,
    policy: str,
    min_layers: int = 0,
    objective: str = "latency",
    return_M: FloatArray | None = None,
) -> tuple[tuple[int, ...], float]:
    """Find the optimal split of a chain of layers on a chain of devices.

    `return_M`: seconds to send the result back from each device; None: those of the problem. Returns the
    device of each layer, and the value of the objective. Raises InfeasibleError when no split meets the
    policy and the limits.
    """
    early, epsilon_LM = policy == "stop-early", problem.epsilon_LM(encoding)
    limits = problem.limits(encoding, min_layers)
    try:
        if objective == "throughput":
            _, placement = solve_throughput(problem.tau_NM, epsilon_LM, policy, limits, problem.call_M)
            value = chain_period(problem.tau_NM, epsilon_LM, placement, early, problem.call_M)
        elif objective == "energy":
            run_NM, send_LM = problem.joules_NM, epsilon_LM * problem.send_power_w_M
            value, placement = solve_chain(run_NM, send_LM, policy, limits)
        else:
            return_M = problem.return_M if return_M is None else return_M
            value, placement = solve_chain(
                problem.tau_NM, epsilon_LM, policy, limits, return_M, problem.call_M
            )
    except InfeasibleError as error:
        raise InfeasibleError(_why_infeasible(problem, policy, min_layers, str(error))) from None
    return placement.devices, value


def _why_infeasible(problem: SplitProblem, policy: str, min_layers: int, reason: str) -> str:
    N, M = problem.N, problem.M
    if policy == "strict" and N - max(min_layers, 1) < M - 1:
        return (
            f"policy strict gives each of {M} devices a layer, {problem.model} has {N}: expected fewer "
            "devices, or --policy relay"
        )
    limits = [f"{d.name} {d.memory_bytes / 1e6:g} MB" for d in problem.devices if d.memory_bytes is not None]
    if limits:
        weights_mb = problem.held_bytes(range(problem.N)) / 1e6
        return (
            f"{problem.model} ({weights_mb:g} MB of weights) fits no split of its devices' memory "
            f"({', '.join(limits)})"
        )
    return reason


def allowed_on_chain(
    problem: SplitProblem, encoding: str, policy: str, min_layers: int, devices: Sequence[int]
) -> bool:
    """Whether a placement on a chain of devices meets the policy, the first layers, and the limits."""
    first = all(m == 0 for m in devices[:min_layers])
    strict = policy != "strict" or set(devices) == set(range(problem.M))
    if not first or not strict or not problem.has_limits:
        return bool(first and strict)
    placement = placement_from_devices(tuple(devices), problem.M)
    limits = problem.limits(encoding, min_layers)
    counts = np.bincount(np.array(devices, dtype=np.intp), minlength=problem.M)
    layers = (counts >= limits.min_layers_M).all() and (counts <= limits.max_layers_M).all()
    early = policy == "stop-early"
    return bool(layers and all(budget.holds(placement, early) for budget in limits.budgets))


@dataclass(frozen=True, slots=True)
class BranchTimes:
    """Seconds of B branches on the K children of a mesh; `children` are indices among the devices.

    `to_child_K`: from the root to each child; `to_join_BK`: from each child onward with each branch's output;
    `tau_BK`: each branch on each child, with the call of the child; infinite where it may not run.
    """

    children: tuple[int, ...]
    to_child_K: FloatArray
    to_join_BK: FloatArray
    tau_BK: FloatArray


@dataclass(frozen=True, slots=True)
class MeshSplit:
    """The optimal split of equation (2), with the device of each unit and the terms of T, in seconds.

    `trunk` and `tail` are their problems as chains; `trunk_policy` and `tail_return_M` arguments of their
    splits. Devices are indices among all devices. `bound_s` is a lower bound of T: T itself unless the time
    limit was over.
    """

    trunk: SplitProblem
    tail: SplitProblem
    trunk_policy: str
    tail_return_M: FloatArray
    branches: BranchTimes
    trunk_devices: tuple[int, ...]
    branch_devices: tuple[int, ...]
    tail_devices: tuple[int, ...]
    trunk_s: float
    branch_s: float
    tail_s: float
    bound_s: float

    @property
    def devices(self) -> tuple[int, ...]:
        """The device of each unit."""
        return (*self.trunk_devices, *self.branch_devices, *self.tail_devices)

    @property
    def latency_s(self) -> float:
        """T of equation (2)."""
        return self.trunk_s + self.branch_s + self.tail_s


def mesh_split(
    problem: SplitProblem, encoding: str, policy: str, min_layers: int = 0, time_limit_s: float = math.inf
) -> MeshSplit:
    """Find the optimal split of equation (2) with its parts, or the best found in `time_limit_s`.

    Raises InfeasibleError when no split meets the policy and the limits, TopologyError as `trunk_and_tail`.
    """
    fork, tree = fork_and_tree(problem)
    trunk, tail = trunk_and_tail(problem)
    trunk_devices, trunk_s = split_on_chain(trunk, encoding, _trunk_policy(policy), min_layers)
    branches = branch_times(problem, encoding)
    assigned = assign_branches(
        branches.tau_BK + branches.to_join_BK,
        branches.to_child_K,
        np.zeros(len(branches.children)),
        tree.fan_out,
        time_limit_s,
        _required_K(problem, branches.children),
    )
    tail_indices = [problem.names.index(name) for name in tail.names]
    tail_return_M = problem.return_M[tail_indices]
    tail_devices, tail_s = split_on_chain(tail, JOINED_ENCODING, policy, return_M=tail_return_M)
    return MeshSplit(
        trunk=trunk,
        tail=tail,
        trunk_policy=_trunk_policy(policy),
        tail_return_M=tail_return_M,
        branches=branches,
        trunk_devices=tuple(problem.names.index(trunk.names[m]) for m in trunk_devices),
        branch_devices=devices_of_branches(fork, [branches.children[k] for k in assigned.children]),
        tail_devices=tuple(tail_indices[m] for m in tail_devices),
        trunk_s=trunk_s,
        branch_s=assigned.latency_s,
        tail_s=tail_s,
        bound_s=trunk_s + assigned.bound_s + tail_s,
    )


def devices_of_branches(fork: ForkJoin, devices: Sequence[int]) -> tuple[int, ...]:
    """Repeat the device of each branch for every unit of it."""
    return tuple(m for m, branch in zip(devices, fork.branches, strict=True) for _ in branch)


def fork_and_tree(problem: SplitProblem) -> tuple[ForkJoin, MeshTree]:
    """Give the fork of the model and the tree of the mesh, which must be there."""
    fork, tree = problem.fork, problem.tree
    assert fork and tree, "expected a model that forks over a mesh"
    return fork, tree


def _trunk_policy(policy: str) -> str:
    """Policy of the trunk: its output must reach the root."""
    return "strict" if policy == "strict" else "relay"


def allowed_on_mesh(
    problem: SplitProblem, encoding: str, policy: str, min_layers: int, devices: Sequence[int]
) -> bool:
    """Whether a placement is one of equation (2) that meets the policy and the limits."""
    fork, tree = fork_and_tree(problem)
    names = [problem.names[m] for m in devices]
    used = [set(names[branch.start : branch.stop]) for branch in fork.branches]
    trunk, tail = trunk_and_tail(problem)
    parts = (
        (trunk, fork.trunk, encoding, _trunk_policy(policy), min_layers),
        (tail, fork.tail, JOINED_ENCODING, policy, 0),
    )
    for part, units, part_encoding, part_policy, part_min_layers in parts:
        own = names[units.start : units.stop]
        if not set(own) <= set(part.names):
            return False
        placed = [part.names.index(name) for name in own]
        if placed != sorted(placed) or not allowed_on_chain(
            part, part_encoding, part_policy, part_min_layers, placed
        ):
            return False
    every = [name for own in used for name in own]
    if len(every) > len(used) or len(set(every)) < len(used) or not set(every) <= set(tree.children):
        return False
    tau_BK = branch_times(problem, encoding).tau_BK
    within_limits = np.isfinite([tau_BK[b, tree.children.index(name)] for b, name in enumerate(every)])
    children = [problem.names.index(name) for name in tree.children]
    required = np.array(tree.children)[_required_K(problem, children)]
    return bool(within_limits.all()) and set(required.tolist()) <= set(every)


def _required_K(problem: SplitProblem, children: Sequence[int]) -> BoolArray:  # noqa: N802
    """Whether each child must run a branch, by its `min_layers`."""
    return np.array([problem.devices[m].min_layers > 0 for m in children])


def trunk_and_tail(problem: SplitProblem) -> tuple[SplitProblem, SplitProblem]:
    """Make the problems of the trunk, over the devices up to the root, and of the tail, over the later ones.

    The raw input of the tail is the joined output of the branches.
    """
    fork, tree = fork_and_tree(problem)
    others = [m for m, name in enumerate(problem.names) if name not in tree.children]
    root = others.index(problem.names.index(tree.root)) + 1
    trunk = _part(problem, fork.trunk, others[:root], problem.input_bytes)
    tail = _part(problem, fork.tail, others[root:], {JOINED_ENCODING: problem.joined_bytes})
    return replace(trunk, model=f"the trunk of {trunk.model}"), replace(
        tail, model=f"the tail of {tail.model}"
    )


def _part(
    problem: SplitProblem, units: range, devices: Sequence[int], input_bytes: Mapping[str, float]
) -> SplitProblem:
    rows, columns = slice(units.start, units.stop), list(devices)
    names = [problem.names[m] for m in columns]
    hops = list(zip(names, names[1:], strict=False))
    # As float32, so that a sum of outputs, here the raw input, takes as long as any output.
    links = [
        Link(k.source, k.target, k.capacity_bps * WIRE_BYTES["float32"] / WIRE_BYTES[k.wire], k.delay_s)
        if JOINED_ENCODING in input_bytes
        else k
        for k in problem.links
        if (k.source, k.target) in hops
    ]
    return replace(
        problem,
        units=problem.units[rows],
        devices=tuple(problem.devices[m] for m in columns),
        tau_NM=problem.tau_NM[rows, columns],
        low_NM=problem.low_NM[rows, columns],
        high_NM=problem.high_NM[rows, columns],
        output_bytes_N=problem.output_bytes_N[rows],
        input_bytes=input_bytes,
        links=tuple(links),
        inputs=tuple((n,) for n in range(len(units))),
        weight_bytes_N=problem.weight_bytes_N[rows],
        shared_weights=regroup(problem.shared_weights, [range(n, n + 1) for n in units]),
        peak_bytes_N=problem.peak_bytes_N[rows],
        tree=None,
        returns=False,
    )


def branch_times(problem: SplitProblem, encoding: str) -> BranchTimes:
    """Compute the seconds of the branches on the children."""
    fork, tree = fork_and_tree(problem)
    children = [problem.names.index(name) for name in tree.children]
    links, sent_bytes_L = problem.link_arrays, problem.sent_bytes_L(encoding)
    root, join = problem.names.index(tree.root), problem.join_device
    forked = fork.trunk.stop
    to_child_K = links.epsilon_MM(float(sent_bytes_L[forked]), forked == 0)[root, children]
    sizes = [float(sent_bytes_L[branch.stop]) for branch in fork.branches]
    to_join_BK = np.array([links.epsilon_MM(size)[children, join] for size in sizes])
    tau_BK = (_branch_sums(problem.tau_NM, fork.branches) + problem.call_M)[:, children]
    tau_BK[~_allowed_BK(problem, fork.branches, children, to_join_BK)] = np.inf
    return BranchTimes(tuple(children), to_child_K, to_join_BK, tau_BK)


def _branch_sums(use_NM: FloatArray, branches: Sequence[range]) -> FloatArray:
    return np.array([use_NM[branch.start : branch.stop].sum(0) for branch in branches])


def _allowed_BK(
    problem: SplitProblem, branches: Sequence[range], children: Sequence[int], to_join_BK: FloatArray
) -> BoolArray:
    """Whether each branch is within each child's limits of layers, memory and energy."""
    peaks = [problem.peak_bytes_N[branch.start : branch.stop].max() for branch in branches]
    memory_B1 = np.array(
        [[problem.held_bytes(branch) + peak] for branch, peak in zip(branches, peaks, strict=True)]
    )
    energy_BK = _branch_sums(problem.joules_NM, branches)[:, children]
    energy_BK = energy_BK + to_join_BK * problem.send_power_w_M[children]
    lengths_B1 = np.array([[len(branch)] for branch in branches])
    own = [problem.devices[m] for m in children]
    max_layers_K, max_bytes_K, max_joules_K = (
        np.array([np.inf if limit is None else limit for limit in limits]) * (1 + 1e-12)
        for limits in ([d.max_layers for d in own], [d.memory_bytes for d in own], [d.energy_j for d in own])
    )
    counts_BK = (np.array([d.min_layers for d in own]) <= lengths_B1) & (lengths_B1 <= max_layers_K)
    return np.asarray(counts_BK & (memory_B1 <= max_bytes_K) & (energy_BK <= max_joules_K))
