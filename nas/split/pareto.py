"""Latency against throughput: the least T at every period that can be kept, of a line or of a mesh."""

from collections.abc import Callable

import numpy as np

from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.nas.split.links import Array
from jmsnas.nas.split.methods import SplitRequest
from jmsnas.nas.split.on_mesh import JOINED_ENCODING, MeshSplit, mesh_split
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.solve_mesh import assign_branches
from jmsnas.nas.split.throughput import chain_period, min_latency_within_period


def latency_throughput_front(costs: SplitProblem, request: SplitRequest) -> list[tuple[float, float]]:
    """Give (seconds between two images, least T) of every plan that no other beats in both; rising periods.

    Raises
    ------
    NetworkError
        For a graph of devices that is neither a line nor a mesh with a child for each branch.
    TargetError
        When the policy allows no plan at all.
    """
    if costs.fork:
        within = _tree_within(costs, request)
    elif costs.is_chain_topology and costs.is_chain:
        within = _part_within(costs, request.encoding, request.policy, request.min_layers, costs.back_M)
    else:
        raise TopologyError(f"{costs.network} on {', '.join(costs.names)}: no line and no mesh of branches")
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


# From a period to the period of the plan of least T that keeps it, and that T. Raises TargetError.
_Within = Callable[[float], tuple[float, float]]


def _part_within(costs: SplitProblem, encoding: str, policy: str, min_layers: int, back_M: Array) -> _Within:
    epsilon_LM, limits = costs.epsilon_LM(encoding), costs.limits(encoding, policy, min_layers)
    early = policy == "stop-early"

    def within(period_s: float) -> tuple[float, float]:
        given = (costs.tau_NM, epsilon_LM, policy, period_s, limits, back_M)
        latency_s, placement = min_latency_within_period(*given)
        return chain_period(costs.tau_NM, epsilon_LM, placement, early), latency_s

    return within


def _tree_within(costs: SplitProblem, request: SplitRequest) -> _Within:
    """Keep a period in trunk, branches and tail, each by itself."""
    parts = mesh_split(costs, request.encoding, request.policy, request.min_layers)
    none = np.zeros(parts.trunk.M)
    trunk = _part_within(parts.trunk, request.encoding, parts.trunk_policy, request.min_layers, none)
    tail = _part_within(parts.tail, JOINED_ENCODING, request.policy, 0, parts.tail_back_M)

    def within(period_s: float) -> tuple[float, float]:
        each = [trunk(period_s), _branches_within(costs, parts, period_s), tail(period_s)]
        return max(its[0] for its in each), sum(its[1] for its in each)

    return within


def _branches_within(costs: SplitProblem, parts: MeshSplit, period_s: float) -> tuple[float, float]:
    assert costs.tree, "asked for forks over a mesh only"
    busy_BK = np.maximum(np.maximum(parts.tau_BK, parts.behind_BK), parts.to_K)
    kept_BK = np.where(busy_BK <= period_s * (1 + 1e-12), parts.tau_BK + parts.behind_BK, np.inf)
    none_K = np.zeros(len(parts.to_K))
    latency_s, chosen = assign_branches(kept_BK, parts.to_K, none_K, costs.tree.fan_out)
    return float(max(busy_BK[b, k] for b, k in enumerate(chosen))), latency_s
