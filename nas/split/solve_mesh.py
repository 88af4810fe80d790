"""Optimal split of a mesh by equation (2): trunk and tail as chains, branches by bottleneck assignment.

``T = T(trunk) + T(tail) + max over branches``: the trunk (up to the root) and the tail (after the join) are
chains, and the branches are assigned to children so that the slowest branch is as fast as possible; with
serial fan-out the order of sending counts too (serial/fan_out.py). B branches, K children. Pure functions of
arrays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from jmsnas.arrays import BoolArray, FloatArray
from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.placement import Placement
from jmsnas.nas.split.serial.fan_out import all_assignments, assign_serially, sending_order
from jmsnas.nas.split.shared_weights import regroup
from jmsnas.nas.split.solve_chain import DeviceLimits, ResourceBudget, solve_chain

# Up to so many assignments are enumerated.
_MAX_ENUMERATED = 120


def bottleneck_assignment(cost_BK: FloatArray) -> tuple[float, tuple[int, ...]]:
    """Assign each branch a child of its own so that the greatest cost is least (bottleneck assignment).

    Returns the greatest cost, and the child of each branch; optimal. Few assignments are enumerated;
    otherwise the least threshold at which a perfect matching exists is found by bisection over the distinct
    costs. Raises InfeasibleError when no assignment has a finite cost, for example with more branches than
    children.
    """
    B, K = cost_BK.shape
    if B == 0:
        return 0.0, ()
    if B <= K and math.perm(K, B) <= _MAX_ENUMERATED:
        children_PB = all_assignments(B, K)
        greatest_P = cost_BK[np.arange(B), children_PB].max(axis=1)
        best = int(greatest_P.argmin())
        if not np.isfinite(greatest_P[best]):
            raise InfeasibleError(_none_allowed(B, K))
        return float(greatest_P[best]), tuple(children_PB[best].tolist())
    levels = np.unique(cost_BK[np.isfinite(cost_BK)])
    low, high = 0, len(levels)
    found: tuple[int, ...] = ()
    while low < high:
        middle = (low + high) // 2
        matched = maximum_bipartite_matching(csr_array(cost_BK <= levels[middle]), perm_type="column")
        if (matched >= 0).all():
            found, high = tuple(int(k) for k in matched), middle
        else:
            low = middle + 1
    if not found:
        raise InfeasibleError(_none_allowed(B, K))
    return float(levels[low]), found


@dataclass(frozen=True, slots=True)
class BranchAssignment:
    """Child of each branch, and the branches in the order in which the root sends to them.

    `latency_s`: the max term of equation (2) without tau_D^r; `bound_s`: a lower bound of it. `order` is
    empty for a broadcast.
    """

    latency_s: float
    bound_s: float
    children: tuple[int, ...]
    order: tuple[int, ...] = ()


def arrivals_s(
    epsilon_root_K: FloatArray, children: Sequence[int], order: Sequence[int], fan_out: str
) -> FloatArray:
    """Seconds until the trunk's output arrives at the child of each branch; (B,).

    `broadcast`: at all at once. `serial`: one copy after the other, to the branches in `order`; an empty
    order is that of the branches.
    """
    arrived_B: FloatArray = epsilon_root_K[list(children)]
    if fan_out == "serial":
        sent = list(order or range(len(children)))
        arrived_B[sent] = np.cumsum(arrived_B[sent])
    return arrived_B


def assign_branches(
    tau_BK: FloatArray,
    epsilon_root_K: FloatArray,
    epsilon_K: FloatArray,
    fan_out: str = "broadcast",
    time_limit_s: float = math.inf,
    required_K: BoolArray | None = None,
) -> BranchAssignment:
    """Assign the branches to children so that the max term of equation (2) (without tau_D^r) is least.

    `tau_BK` is infinite where a branch may not run; `epsilon_root_K` and `epsilon_K` are eps^{r->k} and
    eps^k, seconds. With `serial` fan-out the order of sending is optimised too (serial/fan_out.py); the
    result is optimal unless `time_limit_s` is over. `required_K`: children that must have a branch. Raises
    InfeasibleError.
    """
    (B, K), tail_BK = tau_BK.shape, tau_BK + epsilon_K
    send_BK = np.broadcast_to(epsilon_root_K, (B, K))
    if required_K is not None and required_K.any() and B < K:
        # The other children run branches of no time.
        tail_BK = np.concatenate([tail_BK, np.where(np.tile(required_K, (K - B, 1)), np.inf, 0.0)])
        send_BK = np.concatenate([send_BK, np.zeros((K - B, K))])
    if fan_out == "broadcast":
        try:
            seconds, children = bottleneck_assignment(send_BK + tail_BK)
        except InfeasibleError:
            raise InfeasibleError(_none_allowed(B, K)) from None
        return BranchAssignment(seconds, seconds, children[:B])
    seconds, bound_s, children = assign_serially(tail_BK, send_BK, time_limit_s)
    if len(children) < B:
        raise InfeasibleError(_none_allowed(B, K))
    order = sending_order(tail_BK[np.arange(B), list(children[:B])])
    return BranchAssignment(seconds, bound_s, children[:B], order)


def _none_allowed(B: int, K: int) -> str:
    return f"no way to give each of {B} branches one of {K} children is allowed"


def solve_trunk_and_tail(
    tau_NM: FloatArray,
    epsilon_LM: FloatArray,
    policy: str,
    limits: DeviceLimits,
    return_M: FloatArray | None = None,
    joint: tuple[int, int] | None = None,
    call_M: FloatArray | None = None,
) -> tuple[float, Placement]:
    """Split trunk and tail of a mesh as two chains: the trunk ends on the root, the tail runs after it.

    `joint`: layers of the trunk, and devices up to the root; None for a plain chain. The result may stop
    early in the tail only. Returns T and the placement. Raises InfeasibleError.
    """
    if joint is None:
        return solve_chain(tau_NM, epsilon_LM, policy, limits, return_M, call_M)
    n, m = joint
    call_M = np.zeros(tau_NM.shape[1]) if call_M is None else call_M
    trunk_policy = "strict" if policy == "strict" else "relay"
    trunk_s, trunk = solve_chain(
        tau_NM[:n, :m],
        epsilon_LM[: n + 1, :m],
        trunk_policy,
        _limits_of(limits, slice(0, n), slice(0, m)),
        call_M=call_M[:m],
    )
    return_M = None if return_M is None else return_M[m:]
    after = _limits_of(limits, slice(n, None), slice(m, None))
    tail_s, tail = solve_chain(tau_NM[n:, m:], epsilon_LM[n:, m:], policy, after, return_M, call_M[m:])
    return trunk_s + tail_s, Placement((*trunk.cuts, *(n + cut for cut in tail.cuts)))


def _limits_of(limits: DeviceLimits, layers: slice, devices: slice) -> DeviceLimits:
    outputs = slice(layers.start, None if layers.stop is None else layers.stop + 1)
    budgets = tuple(
        ResourceBudget(
            shared=regroup(budget.shared, [range(n, n + 1) for n in range(len(budget.use_NM))[layers]]),
            use_NM=budget.use_NM[layers, devices],
            peak_NM=budget.peak_NM[layers, devices],
            sent_LM=budget.sent_LM[outputs, devices],
            limit_M=budget.limit_M[devices],
        )
        for budget in limits.budgets
    )
    return DeviceLimits(limits.min_layers_M[devices], limits.max_layers_M[devices], budgets)
