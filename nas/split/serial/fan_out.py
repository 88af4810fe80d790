"""Assignment of branches to children, and order of sending, where the root sends its copies one by one.

The copy of branch b to child k takes send_BK[b, k] seconds; the branch then needs tail_BK[b, k] more, until
its output has reached the join. For given children the largest tail is sent first, which is optimal (Jackson,
1955). Few assignments of children are enumerated. Otherwise bounds from assignments of least cost (Hungarian
method) are tightened by an integer program (milp.py). B branches, K children, P assignments.
"""

import functools
import math
import time
from itertools import permutations

import numpy as np
from scipy.optimize import linear_sum_assignment

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.nas.split.serial.milp import solve_serial_milp

# Up to so many assignments are enumerated.
_MAX_ENUMERATED = 25_000
# Share of the latency to which the integer program is accurate.
_TOLERANCE = 1e-6
# Tails at which a lower bound is computed, and halvings of the gap by these bounds.
_THRESHOLDS = 16
_HALVINGS = 8


def sending_order(tails_B: FloatArray) -> tuple[int, ...]:
    """Order the branches for least latency: the largest tail first, of equal ones the first branch."""
    return tuple(np.argsort(-tails_B, kind="stable").tolist())


def serial_latencies(send_PB: FloatArray, tails_PB: FloatArray) -> FloatArray:
    """Seconds until the last branch has reached the join, with the largest tail sent first; (P,)."""
    order_PB = np.argsort(-tails_PB, axis=1, kind="stable")
    sent_PB = np.take_along_axis(send_PB, order_PB, axis=1).cumsum(axis=1)
    greatest_P: FloatArray = (sent_PB + np.take_along_axis(tails_PB, order_PB, axis=1)).max(axis=1)
    return greatest_P


def assign_serially(
    tail_BK: FloatArray, send_BK: FloatArray, time_limit_s: float = math.inf
) -> tuple[float, float, tuple[int, ...]]:
    """Assign each branch a child of its own so that the last branch reaches the join first.

    Returns the seconds, a lower bound of them, and the child of each branch (none where no assignment is
    finite). The bound equals the seconds unless `time_limit_s` is over; with more assignments than are
    enumerated it is accurate to one part in a million.
    """
    B, K = tail_BK.shape
    if B == 0:
        return 0.0, 0.0, ()
    if B <= K and math.perm(K, B) <= _MAX_ENUMERATED:
        children_PB = all_assignments(B, K)
        seconds_P = serial_latencies(
            *(array_BK[np.arange(B), children_PB] for array_BK in (send_BK, tail_BK))
        )
        best = int(seconds_P.argmin())
        seconds = float(seconds_P[best])
        return seconds, seconds, tuple(children_PB[best].tolist()) if math.isfinite(seconds) else ()
    search = _Search(tail_BK, send_BK, time.monotonic() + time_limit_s)
    search.improve(search.cheapest(send_BK + tail_BK))
    if not search.children:
        return math.inf, math.inf, ()
    search.bound()
    search.improve_locally()
    if not search.over:
        found, low_s = solve_serial_milp(tail_BK, send_BK, search.low_s, search.high_s, search.deadline_s)
        search.improve(found)
        search.improve_locally()
        proven = search.high_s <= low_s * (1 + _TOLERANCE)
        search.low_s = search.high_s if proven else max(search.low_s, low_s)
    return search.high_s, min(search.low_s, search.high_s), search.children


@functools.cache
def all_assignments(B: int, K: int) -> IntArray:
    """List all assignments of B branches to K children, (P, B)."""
    return np.array(list(permutations(range(K), B)), dtype=np.intp)


class _Search:
    """Best assignment found and the bounds of its seconds, until a deadline."""

    def __init__(self, tail_BK: FloatArray, send_BK: FloatArray, deadline_s: float) -> None:
        self.tail_BK, self.send_BK, self.deadline_s = tail_BK, send_BK, deadline_s
        self.low_s, self.high_s = 0.0, math.inf
        self.children: tuple[int, ...] = ()

    @property
    def over(self) -> bool:
        """Whether the bounds meet or the time is over."""
        return self.low_s >= self.high_s or time.monotonic() >= self.deadline_s

    def latencies(self, children_PB: IntArray) -> FloatArray:
        """Seconds of assignments, (P,)."""
        branches = np.arange(len(self.tail_BK))
        send_PB, tails_PB = self.send_BK[branches, children_PB], self.tail_BK[branches, children_PB]
        return serial_latencies(send_PB, tails_PB)

    def improve(self, children_B: IntArray | None) -> None:
        """Keep an assignment where it is faster than the best."""
        if children_B is None:
            return
        seconds = float(self.latencies(children_B[None])[0])
        if seconds < self.high_s:
            self.high_s, self.children = seconds, tuple(children_B.tolist())

    def cheapest(self, cost_BK: FloatArray) -> IntArray | None:
        """Find the assignment of least total cost; None where none is finite."""
        try:
            children_B: IntArray = linear_sum_assignment(cost_BK)[1]
        except ValueError:
            return None
        return children_B if len(children_B) == len(cost_BK) else None

    def bound(self) -> None:
        """Raise the lower bound: whatever is sent to branches with a tail of t or more is sent before T - t.

        Without a limit on T, and then by bisection, where a branch may only take a child on which it ends
        by T.
        """
        ends_BK = self.tail_BK + self.send_BK
        finite = np.unique(self.tail_BK[np.isfinite(ends_BK)])
        places = np.unique(np.linspace(0, len(finite) - 1, _THRESHOLDS).astype(int))
        tails = finite[places].tolist()
        self.low_s = float(ends_BK.min(axis=1).max())
        for tail in tails:
            if sent_s := self._least_sent_s(tail, ends_BK, math.inf):
                self.low_s = max(self.low_s, sent_s + tail)
        for _ in range(_HALVINGS):
            middle_s = (self.low_s + self.high_s) / 2
            if self.over:
                break
            sent = ((self._least_sent_s(tail, ends_BK, middle_s), tail) for tail in tails)
            if any(sent_s > max(0.0, middle_s - tail) for sent_s, tail in sent):
                self.low_s = middle_s
            elif self.high_s > middle_s:
                break  # as far as these bounds go

    def _least_sent_s(self, tail: float, ends_BK: FloatArray, most_s: float) -> float:
        """Least seconds of sending to branches with such a tail or a larger one."""
        if self.over:
            return 0.0
        sent_BK = np.where(self.tail_BK >= tail, self.send_BK, 0.0)
        sent_BK[~((ends_BK <= most_s) & np.isfinite(ends_BK))] = math.inf
        children_B = self.cheapest(sent_BK)
        if children_B is None:
            return math.inf
        self.improve(children_B)
        return float(sent_BK[np.arange(len(sent_BK)), children_B].sum())

    def improve_locally(self) -> None:
        """Give a branch another child, which its branch exchanges for it, as long as that is faster."""
        B, K = self.tail_BK.shape
        before_s = math.inf
        while self.high_s < before_s and not self.over:
            before_s = self.high_s
            for b in range(B):
                if self.over:
                    return
                own = np.array(self.children)
                children_KB = np.tile(own, (K, 1))
                children_KB[np.nonzero(np.arange(K)[:, None] == own)] = own[b]
                children_KB[:, b] = np.arange(K)
                self.improve(children_KB[self.latencies(children_KB).argmin()])
