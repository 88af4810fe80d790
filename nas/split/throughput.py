"""Optimal split of a chain for throughput: the least period between two images.

In a pipeline each device and each link works on another image, so a new image may start every
``max over m of max(tau_D^m, epsilon_{d(m)}^m)`` seconds (tau_D^m with its call). Whether a period
is feasible takes one pass over the cuts: among those that device m-1 can end at, the last one leaves device m
the least work. O(N M) per period.
"""

from dataclasses import dataclass, replace

import numpy as np

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.placement import Placement, chain_calls, chain_terms
from jmsnas.nas.split.solve_chain import DeviceLimits, ResourceBudget, policy_limits, solve_chain


def chain_period(
    tau_NM: FloatArray,
    epsilon_LM: FloatArray,
    placement: Placement,
    stop_early: bool = False,
    call_M: FloatArray | None = None,
) -> float:
    """Seconds between two images of a placement: the time of its slowest device or link."""
    tau_s, epsilon_s = chain_terms(tau_NM, epsilon_LM, placement, stop_early)
    calls_s = [0.0] * len(tau_s) if call_M is None else chain_calls(placement, call_M)
    return max(*(tau + call for tau, call in zip(tau_s, calls_s, strict=True)), *epsilon_s)


def solve_throughput(
    tau_NM: FloatArray,
    epsilon_LM: FloatArray,
    policy: str,
    limits: DeviceLimits | None = None,
    call_M: FloatArray | None = None,
) -> tuple[float, Placement]:
    """Find the split of least period, and among those one of least T, that the policy and the limits allow.

    Arguments as in `solve_chain`. Returns seconds between two images, and the placement; optimal. Raises
    InfeasibleError when no split is allowed.
    """
    N, M = tau_NM.shape
    limits = limits or policy_limits(policy, N, M)
    early, call_M = policy == "stop-early", np.zeros(M) if call_M is None else call_M
    _, found = solve_chain(tau_NM, epsilon_LM, policy, limits, call_M=call_M)
    test = _PeriodTest(
        np.vstack([np.zeros((1, M)), np.cumsum(tau_NM, axis=0)]),
        np.vstack([epsilon_LM[:-1], np.zeros((1, M))]) if early else epsilon_LM,
        np.stack([limits.first_start_L(m, N, early) for m in range(M)], axis=1),
        np.maximum(limits.min_layers_M, 1 if policy == "strict" else 0),
        call_M,
    )
    period_s, lowest_s = chain_period(tau_NM, epsilon_LM, found, early, call_M), 0.0
    while True:
        middle_s = (period_s + lowest_s) / 2
        # Few plans are left in a narrow interval: it is quicker to test whether any is faster at all.
        last = middle_s >= period_s * (1 - 1e-6)
        better = test.below(period_s * (1 - 1e-13) if last else middle_s)
        if better is not None:
            period_s = min(period_s, chain_period(tau_NM, epsilon_LM, better, early, call_M))
        elif last:
            within = min_latency_within_period(tau_NM, epsilon_LM, policy, period_s, limits, call_M=call_M)
            return period_s, within[1]
        else:
            lowest_s = middle_s


def min_latency_within_period(
    tau_NM: FloatArray,
    epsilon_LM: FloatArray,
    policy: str,
    period_s: float,
    limits: DeviceLimits | None = None,
    return_M: FloatArray | None = None,
    call_M: FloatArray | None = None,
) -> tuple[float, Placement]:
    """Find the split of least T among those that can start an image every `period_s` seconds.

    `return_M`: seconds to send the result back from each device; `call_M`: to call it. Returns T and the
    placement. Raises InfeasibleError when no split has such a period or a shorter one.
    """
    N, M = tau_NM.shape
    limits = limits or policy_limits(policy, N, M)
    most_M = np.full(M, period_s * (1 + 1e-12)) - (0.0 if call_M is None else call_M)
    allowed_LM = np.where(epsilon_LM <= period_s * (1 + 1e-12), epsilon_LM, np.inf)
    if policy == "stop-early":
        allowed_LM[N] = epsilon_LM[N]
    none = np.zeros((N + 1, M))
    busy = ResourceBudget(tau_NM, none[1:], none, np.maximum(most_M, 0.0))
    max_layers_M = np.where(most_M < 0, 0, limits.max_layers_M)  # a call alone takes longer than the period
    try:
        held = replace(limits, max_layers_M=max_layers_M, budgets=(*limits.budgets, busy))
        return solve_chain(tau_NM, allowed_LM, policy, held, return_M, call_M)
    except InfeasibleError:
        raise InfeasibleError(
            f"no split of {N} layers over {M} devices takes an image every {period_s * 1e3:g} ms under the "
            f"policy {policy}: expected a longer period, faster devices or links"
        ) from None


@dataclass(frozen=True, slots=True)
class _PeriodTest:
    """Arrays of the test of a period: prefix sums of tau, epsilon, first cuts, fewest layers, calls."""

    sums_LM: FloatArray
    epsilon_LM: FloatArray
    first_LM: IntArray
    least_M: IntArray
    call_M: FloatArray

    def below(self, period_s: float) -> Placement | None:
        """Find a placement whose period is below `period_s`; None where there is none."""
        L, M = self.sums_LM.shape
        cuts_L = np.arange(L)
        fits_LM = self.epsilon_LM < period_s
        last_LM: IntArray = np.empty((L, M), dtype=np.intp)
        at_L = cuts_L == 0
        for m, least in enumerate(self.least_M.tolist()):
            last_L = np.maximum.accumulate(np.where(at_L, cuts_L, -1))
            last_LM[:, m] = np.concatenate([np.full(least, -1), last_L[: L - least]])[:L]
            last_L = last_LM[:, m]
            busy_L = self.sums_LM[:, m] - self.sums_LM[last_L, m] + self.call_M[m] * (last_L < cuts_L)
            at_L = (last_L >= self.first_LM[:, m]) & fits_LM[:, m] & (busy_L < period_s)
        if not at_L[-1]:
            return None
        cuts = [L - 1]
        for m in range(M - 1, 0, -1):
            cuts.append(int(last_LM[cuts[-1], m]))
        return Placement(tuple(reversed(cuts)))
