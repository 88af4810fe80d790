"""Pareto front of latency against throughput, on a chain or a mesh of devices."""

from collections.abc import Callable

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.nas.split.chain_and_mesh import JOINED_ENCODING, MeshSplit, fork_and_tree, mesh_split
from jmsnas.nas.split.methods import SplitRequest
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.solve_mesh import assign_branches
from jmsnas.nas.split.throughput import chain_period, min_latency_within_period


def latency_throughput_front(problem: SplitProblem, request: SplitRequest) -> list[tuple[float, float]]:
    """Compute the Pareto front of (seconds between two images, T), by rising periods.

    Raises TopologyError for a topology that is neither a chain nor a mesh with a child for each branch,
    InfeasibleError when the policy allows no plan at all.
    """
    if problem.fork:
        within = _mesh_within(problem, request)
    elif problem.is_chain_topology and problem.is_chain:
        within = _chain_within(
            problem, request.encoding, request.policy, request.min_layers, problem.return_M
        )
    else:
        raise TopologyError(
            f"{problem.model} on {', '.join(problem.names)}: expected a chain of layers on a chain of "
            "devices, or branches on a mesh"
        )
    found: list[tuple[float, float]] = []
    period_s = np.inf
    while True:
        try:
            own_s, latency_s = within(period_s)
        except InfeasibleError:
            if not found:
                raise
            return found[::-1]
        found.append((own_s, latency_s))
        period_s = own_s * (1 - 1e-9)


# From the longest period allowed to the period and T of the plan of least T. Raises InfeasibleError.
_Within = Callable[[float], tuple[float, float]]


def _chain_within(
    problem: SplitProblem, encoding: str, policy: str, min_layers: int, return_M: FloatArray
) -> _Within:
    epsilon_LM, limits = problem.epsilon_LM(encoding), problem.limits(encoding, min_layers)
    early = policy == "stop-early"

    def within(period_s: float) -> tuple[float, float]:
        latency_s, placement = min_latency_within_period(
            problem.tau_NM, epsilon_LM, policy, period_s, limits, return_M, problem.call_M
        )
        return chain_period(problem.tau_NM, epsilon_LM, placement, early, problem.call_M), latency_s

    return within


def _mesh_within(problem: SplitProblem, request: SplitRequest) -> _Within:
    """Meet a period in trunk, branches and tail, each by itself."""
    asked = request.encoding, request.policy, request.min_layers, request.left_s
    parts = mesh_split(problem, *asked)
    no_return_M = np.zeros(parts.trunk.M)
    trunk = _chain_within(parts.trunk, request.encoding, parts.trunk_policy, request.min_layers, no_return_M)
    tail = _chain_within(parts.tail, JOINED_ENCODING, request.policy, 0, parts.tail_return_M)

    def within(period_s: float) -> tuple[float, float]:
        branches = _branches_within(problem, parts, period_s, request.left_s)
        each = [trunk(period_s), branches, tail(period_s)]
        return max(period for period, _ in each), sum(latency_s for _, latency_s in each)

    return within


def _branches_within(
    problem: SplitProblem, parts: MeshSplit, period_s: float, time_limit_s: float
) -> tuple[float, float]:
    times, (_, tree) = parts.branches, fork_and_tree(problem)
    busy_BK = np.maximum(np.maximum(times.tau_BK, times.to_join_BK), times.to_child_K)
    seconds_BK = np.where(busy_BK <= period_s * (1 + 1e-12), times.tau_BK + times.to_join_BK, np.inf)
    none_K = np.zeros(len(times.children))
    found = assign_branches(seconds_BK, times.to_child_K, none_K, tree.fan_out, time_limit_s)
    return float(max(busy_BK[b, k] for b, k in enumerate(found.children))), found.latency_s
