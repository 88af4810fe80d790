"""The best split of equation (2), exactly: it separates into the line of devices and the branches.

``T = T(line) + max over branches``: the line (trunk up to the root, tail behind the join) is a chain, and the
branches are given to children so that the slowest is as fast as can be, a bottleneck assignment.
B branches, K children. Pure functions over arrays.
"""

import functools
import math
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.placement import Placement
from jmsnas.nas.split.solve_chain import DeviceLimits, ResourceBudget, solve_chain

# So many ways to give branches their children are looked at one by one.
_FEW_WAYS = 120


def bottleneck_assignment(cost_BK: NDArray[np.float64]) -> tuple[float, tuple[int, ...]]:
    """Give each branch a child of its own so that the greatest cost is least.

    Returns
    -------
    The greatest cost, and the child of each branch. Exact: every way where they are few, else the least
    threshold at which a perfect matching exists, found by halving over the distinct costs.

    Raises
    ------
    TargetError
        When no assignment has a finite cost (more branches than children, say).
    """
    B, K = cost_BK.shape
    if B == 0:
        return 0.0, ()
    none = f"no way to give each of {B} branches one of {K} children is allowed"
    if B <= K and math.perm(K, B) <= _FEW_WAYS:
        ways_PB = _every_way(B, K)
        greatest_P = cost_BK[np.arange(B), ways_PB].max(axis=1)
        best = int(greatest_P.argmin())
        if not np.isfinite(greatest_P[best]):
            raise InfeasibleError(none)
        return float(greatest_P[best]), tuple(ways_PB[best].tolist())
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
def _every_way(B: int, K: int) -> NDArray[np.intp]:
    """List the children of each branch, every way; (P, B)."""
    return np.array(list(permutations(range(K), B)), dtype=np.intp)


def arrivals_s(
    epsilon_root_K: NDArray[np.float64], used: tuple[int, ...], fan_out: str
) -> NDArray[np.float64]:
    """Seconds until the trunk's output is at each child, the children `used` being sent to; (K,).

    `broadcast`: all at once. `serial`: one copy after the other, in the order of the children.
    """
    if fan_out == "broadcast":
        return epsilon_root_K
    sent_K = np.zeros(len(epsilon_root_K))
    sent_K[list(used)] = epsilon_root_K[list(used)]
    return np.cumsum(sent_K)


def assign_branches(
    tau_BK: NDArray[np.float64],
    epsilon_root_K: NDArray[np.float64],
    epsilon_K: NDArray[np.float64],
    fan_out: str = "broadcast",
) -> tuple[float, tuple[int, ...]]:
    """Give each branch its child: the least of the max term of equation (2) without tau_D^r.

    Parameters
    ----------
    tau_BK
        Seconds of branch b on child k; infinite where it must not run there.
    epsilon_root_K, epsilon_K
        eps^{r->k} and eps^k, seconds.
    fan_out
        `broadcast` or `serial`; with `serial` a child without a branch is sent nothing, so every choice of
        used children is tried.

    Returns
    -------
    Seconds, and the child of each branch. Raises TargetError.
    """
    B, K = tau_BK.shape
    if fan_out == "broadcast" or B == K:
        every = tuple(range(K))
        return bottleneck_assignment(arrivals_s(epsilon_root_K, every, fan_out) + tau_BK + epsilon_K)
    best: tuple[float, tuple[int, ...]] = (np.inf, ())
    for used in combinations(range(K), B):
        columns = list(used)
        cost_BB = (arrivals_s(epsilon_root_K, used, fan_out) + tau_BK + epsilon_K)[:, columns]
        if np.isfinite(cost_BB).any(axis=1).all():
            try:
                seconds, chosen = bottleneck_assignment(cost_BB)
            except InfeasibleError:
                continue
            best = min(best, (seconds, tuple(columns[k] for k in chosen)))
    if B and not best[1]:
        raise InfeasibleError(f"no way to give each of {B} branches one of {K} children is allowed")
    return best


def solve_trunk_and_tail(
    tau_NM: NDArray[np.float64],
    epsilon_LM: NDArray[np.float64],
    policy: str,
    limits: DeviceLimits,
    return_M: NDArray[np.float64] | None = None,
    joint: tuple[int, int] | None = None,
) -> tuple[float, Placement]:
    """Split the line of a mesh as `solve_chain` does a chain: the trunk ends on the root, the tail behind it.

    `joint`: how many layers the trunk has, and how many devices up to the root; None for a plain chain. The
    result may stop early in the tail only. Raises TargetError.
    """
    if joint is None:
        return solve_chain(tau_NM, epsilon_LM, policy, limits, return_M)
    n, m = joint
    trunk_policy = "strict" if policy == "strict" else "relay"
    trunk_s, trunk = solve_chain(
        tau_NM[:n, :m], epsilon_LM[: n + 1, :m], trunk_policy, _limits_of(limits, slice(0, n), slice(0, m))
    )
    back_M = None if return_M is None else return_M[m:]
    behind = _limits_of(limits, slice(n, None), slice(m, None))
    tail_s, tail = solve_chain(tau_NM[n:, m:], epsilon_LM[n:, m:], policy, behind, back_M)
    return trunk_s + tail_s, Placement((*trunk.cuts, *(n + cut for cut in tail.cuts)))


def _limits_of(limits: DeviceLimits, layers: slice, devices: slice) -> DeviceLimits:
    outputs = slice(layers.start, None if layers.stop is None else layers.stop + 1)
    budgets = tuple(
        ResourceBudget(
            budget.use_NM[layers, devices],
            budget.peak_NM[layers, devices],
            budget.sent_LM[outputs, devices],
            budget.limit_M[devices],
        )
        for budget in limits.budgets
    )
    return DeviceLimits(limits.min_layers_M[devices], limits.max_layers_M[devices], budgets)
