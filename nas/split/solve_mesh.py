"""Optimal split of a mesh by equation (2): trunk and tail as chains, branches by bottleneck assignment.

``T = T(trunk) + T(tail) + max over branches``: the trunk (up to the root) and the tail (after the join) are
chains, and the branches are assigned to children so that the slowest branch is as fast as possible.
B branches, K children. Pure functions of arrays.
"""

import functools
import math
from itertools import combinations, permutations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.placement import Placement
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
    none = f"no way to give each of {B} branches one of {K} children is allowed"
    if B <= K and math.perm(K, B) <= _MAX_ENUMERATED:
        children_PB = _all_assignments(B, K)
        greatest_P = cost_BK[np.arange(B), children_PB].max(axis=1)
        best = int(greatest_P.argmin())
        if not np.isfinite(greatest_P[best]):
            raise InfeasibleError(none)
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
        raise InfeasibleError(none)
    return float(levels[low]), found


@functools.cache
def _all_assignments(B: int, K: int) -> IntArray:
    """List all assignments of B branches to K children, (P, B)."""
    return np.array(list(permutations(range(K), B)), dtype=np.intp)


def arrivals_s(epsilon_root_K: FloatArray, used: tuple[int, ...], fan_out: str) -> FloatArray:
    """Seconds until the trunk's output arrives at each child, when it is sent to the children `used`; (K,).

    `broadcast`: to all at once. `serial`: one copy after the other, in the order of the children.
    """
    if fan_out == "broadcast":
        return epsilon_root_K
    sent_K = np.zeros(len(epsilon_root_K))
    sent_K[list(used)] = epsilon_root_K[list(used)]
    return np.cumsum(sent_K)


def assign_branches(
    tau_BK: FloatArray, epsilon_root_K: FloatArray, epsilon_K: FloatArray, fan_out: str = "broadcast"
) -> tuple[float, tuple[int, ...]]:
    """Assign the branches to children so that the max term of equation (2) (without tau_D^r) is least.

    `tau_BK` is infinite where a branch may not run; `epsilon_root_K` and `epsilon_K` are eps^{r->k} and
    eps^k, seconds. With `serial` fan-out nothing is sent to a child without a branch, so every choice of used
    children is tried. Returns seconds, and the child of each branch. Raises InfeasibleError.
    """
    B, K = tau_BK.shape
    if fan_out == "broadcast" or B == K:
        every = tuple(range(K))
        return bottleneck_assignment(arrivals_s(epsilon_root_K, every, fan_out) + tau_BK + epsilon_K)
    best: tuple[float, tuple[int, ...]] = (np.inf, ())
    for used in combinations(range(K), B):
        columns = list(used)
        cost_BB = (arrivals_s(epsilon_root_K, used, fan_out) + tau_BK + epsilon_K)[:, columns]
        try:
            seconds, chosen = bottleneck_assignment(cost_BB)
        except InfeasibleError:
            continue
        best = min(best, (seconds, tuple(columns[k] for k in chosen)))
    if B and not best[1]:
        raise InfeasibleError(f"no way to give each of {B} branches one of {K} children is allowed")
    return best


def solve_trunk_and_tail(
    tau_NM: FloatArray,
    epsilon_LM: FloatArray,
    policy: str,
    limits: DeviceLimits,
    return_M: FloatArray | None = None,
    joint: tuple[int, int] | None = None,
) -> tuple[float, Placement]:
    """Split trunk and tail of a mesh as two chains: the trunk ends on the root, the tail runs after it.

    `joint`: layers of the trunk, and devices up to the root; None for a plain chain. The result may stop
    early in the tail only. Returns T and the placement. Raises InfeasibleError.
    """
    if joint is None:
        return solve_chain(tau_NM, epsilon_LM, policy, limits, return_M)
    n, m = joint
    trunk_policy = "strict" if policy == "strict" else "relay"
    trunk_s, trunk = solve_chain(
        tau_NM[:n, :m], epsilon_LM[: n + 1, :m], trunk_policy, _limits_of(limits, slice(0, n), slice(0, m))
    )
    return_M = None if return_M is None else return_M[m:]
    after = _limits_of(limits, slice(n, None), slice(m, None))
    tail_s, tail = solve_chain(tau_NM[n:, m:], epsilon_LM[n:, m:], policy, after, return_M)
    return trunk_s + tail_s, Placement((*trunk.cuts, *(n + cut for cut in tail.cuts)))


def _limits_of(limits: DeviceLimits, layers: slice, devices: slice) -> DeviceLimits:
    outputs = slice(layers.start, None if layers.stop is None else layers.stop + 1)
    budgets = tuple(
        ResourceBudget(
            use_NM=budget.use_NM[layers, devices],
            peak_NM=budget.peak_NM[layers, devices],
            sent_LM=budget.sent_LM[outputs, devices],
            limit_M=budget.limit_M[devices],
        )
        for budget in limits.budgets
    )
    return DeviceLimits(limits.min_layers_M[devices], limits.max_layers_M[devices], budgets)
