"""Serial fan-out as a mixed-integer linear program, for too many assignments to enumerate.

Pairs (b, k) of a branch and a child, sorted by falling tail, are in the order in which they would be sent.
Variables: x_j, pair j is used; s_j, seconds of sending to the pairs used up to j; T. A used pair ends at
s_j + tail_j <= T. The same holds for an unused pair after a used one, since its tail is no larger, and for
any pair whose tail is below a lower bound of T. Solved by HiGHS (scipy.optimize.milp).
"""

import math
import time
from typing import NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from jmsnas.arrays import BoolArray, FloatArray, IntArray

# Times are in units of the known latency, which suits the solver's tolerances, absolute and about 1e-6. The
# objective is larger, so that the gap at which the solver stops is smaller.
_OBJECTIVE = 1e4


class _Pairs(NamedTuple):
    """Branch, child, seconds of sending and tail of each pair, by falling tail; (J,)."""

    branch_J: IntArray
    child_J: IntArray
    send_J: FloatArray
    tail_J: FloatArray


def solve_serial_milp(
    tail_BK: FloatArray, send_BK: FloatArray, low_s: float, high_s: float, deadline_s: float
) -> tuple[IntArray | None, float]:
    """Find the child of each branch of least latency, with a lower bound in seconds.

    `low_s` and `high_s` bound the latency; the solver stops at `deadline_s` of the monotonic clock. The
    children are None where none were found in time.
    """
    B, K = tail_BK.shape
    branch_J, child_J = np.nonzero((tail_BK + send_BK <= high_s) & ~_dominated(tail_BK, send_BK))
    falling_J = np.argsort(-tail_BK[branch_J, child_J], kind="stable")
    branch_J, child_J = branch_J[falling_J], child_J[falling_J]
    pairs = _Pairs(branch_J, child_J, send_BK[branch_J, child_J], tail_BK[branch_J, child_J])
    J, unit_s = len(branch_J), high_s
    lower, upper = np.zeros(2 * J + 1), np.ones(2 * J + 1)
    upper[J:] = np.inf
    lower[-1], upper[-1] = low_s / unit_s, 1 + 1e-9
    objective = np.zeros(2 * J + 1)
    objective[-1] = _OBJECTIVE
    constraints = _constraints(pairs, B, K, low_s, unit_s)
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        return None, low_s
    found = milp(
        objective,
        integrality=np.arange(2 * J + 1) < J,
        bounds=Bounds(lower, upper),
        constraints=constraints,
        options={"mip_rel_gap": 0.0} | ({"time_limit": left_s} if math.isfinite(left_s) else {}),
    )
    bound_s = low_s if found.mip_dual_bound is None else float(found.mip_dual_bound) / _OBJECTIVE * unit_s
    if found.x is None:
        return None, bound_s
    used_BK = np.zeros((B, K))
    used_BK[branch_J, child_J] = found.x[:J]
    return used_BK.argmax(axis=1), bound_s


def _dominated(tail_BK: FloatArray, send_BK: FloatArray) -> BoolArray:
    """Whether B other children or more are no worse than child k for branch b: one of them is free."""
    B, K = tail_BK.shape
    dominated_BK, earlier_KK = np.zeros((B, K), dtype=bool), np.tri(K, k=-1, dtype=bool).T
    if B < K:
        for b, (tail_K, send_K) in enumerate(zip(tail_BK, send_BK, strict=True)):
            equal_KK = (send_K[:, None] == send_K) & (tail_K[:, None] == tail_K)
            better_KK = (send_K[:, None] <= send_K) & (tail_K[:, None] <= tail_K) & (~equal_KK | earlier_KK)
            dominated_BK[b] = better_KK.sum(axis=0) >= B
    return dominated_BK


def _constraints(pairs: _Pairs, B: int, K: int, low_s: float, unit_s: float) -> LinearConstraint:
    J = len(pairs.branch_J)
    j, ones = np.arange(J), np.ones(J)
    sums, ends = B + K + j, B + K + J + j
    beyond_J = np.maximum(pairs.tail_J - low_s, 0.0) / unit_s
    entries = (
        (pairs.branch_J, j, ones),  # one child for each branch
        (B + pairs.child_J, j, ones),  # at most one branch for each child
        (sums, J + j, ones),  # s_j = s_(j-1) + send_j x_j
        (sums[1:], J + j[:-1], -ones[1:]),
        (sums, j, -pairs.send_J / unit_s),
        (ends, np.full(J, 2 * J), ones),  # T >= s_j + min(tail_j, low) + (tail_j - low)+ x_j
        (ends, J + j, -ones),
        (ends, j, -beyond_J),
    )
    rows, columns, factors = (np.concatenate(part) for part in zip(*entries, strict=True))
    matrix = coo_array((factors, (rows, columns)), shape=(B + K + 2 * J, 2 * J + 1)).tocsr()
    least = np.concatenate(
        [np.ones(B), np.full(K, -np.inf), np.zeros(J), np.minimum(pairs.tail_J, low_s) / unit_s]
    )
    most = np.concatenate([np.ones(B + K), np.zeros(J), np.full(J, np.inf)])
    return LinearConstraint(matrix, least, most)
