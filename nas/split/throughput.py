"""The split of a chain that answers most images a second: the least period, exactly.

While images follow one another each device and each link works on another one, so a new image may come
every ``max over m of max(tau_D^m, epsilon_{d(m)}^m)`` seconds. Whether a period can be met is one pass over
the cuts: among those that device m-1 can end at, the last one leaves device m the least to do. O(N M) a
period tried.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.links import Array
from jmsnas.nas.split.placement import Placement, chain_terms
from jmsnas.nas.split.solve_chain import DeviceLimits, ResourceBudget, policy_limits, solve_chain


def chain_period(tau_NM: Array, epsilon_LM: Array, placement: Placement, stop_early: bool = False) -> float:
    """Seconds between two images of a placement: the slowest device or link (see `chain_latency`)."""
    tau_s, epsilon_s = chain_terms(tau_NM, epsilon_LM, placement, stop_early)
    return max(*tau_s, *epsilon_s)


def solve_throughput(
    tau_NM: Array, epsilon_LM: Array, policy: str, limits: DeviceLimits | None = None
) -> tuple[float, Placement]:
    """Find the least period over all splits that policy and limits allow; among those, one of least T.

    Parameters
    ----------
    tau_NM, epsilon_LM, policy, limits
        As in `solve_chain`.

    Returns
    -------
    Seconds between two images, and the placement. Proven: nothing below it is feasible.

    Raises
    ------
    TargetError
        When no split is allowed.
    """
    N, M = tau_NM.shape
    limits = limits or policy_limits(policy, N, M)
    early = policy == "stop-early"
    _, found = solve_chain(tau_NM, epsilon_LM, policy, limits)
    tries = _Tries(
        np.vstack([np.zeros((1, M)), np.cumsum(tau_NM, axis=0)]),
        np.vstack([epsilon_LM[:-1], np.zeros((1, M))]) if early else epsilon_LM,
        np.stack([_first_start(limits, m, N, early) for m in range(M)], axis=1),
        np.maximum(limits.min_layers_M, 1 if policy == "strict" else 0),
    )
    period_s, lowest_s = chain_period(tau_NM, epsilon_LM, found, early), 0.0
    while True:
        middle_s = (period_s + lowest_s) / 2
        # Few plans are left in a narrow interval: it is quicker to ask whether anything is faster at all.
        last = middle_s >= period_s * (1 - 1e-6)
        better = tries.below(period_s * (1 - 1e-13) if last else middle_s)
        if better is not None:
            period_s = min(period_s, chain_period(tau_NM, epsilon_LM, better, early))
        elif last:
            return period_s, min_latency_within_period(tau_NM, epsilon_LM, policy, period_s, limits)[1]
        else:
            lowest_s = middle_s


def min_latency_within_period(
    tau_NM: Array,
    epsilon_LM: Array,
    policy: str,
    period_s: float,
    limits: DeviceLimits | None = None,
    return_M: Array | None = None,
) -> tuple[float, Placement]:
    """Find the least T among the splits that take an image every `period_s` seconds; T and the placement.

    `return_M`: seconds to bring the result back from each device.

    Raises
    ------
    TargetError
        When no split has such a period.
    """
    N, M = tau_NM.shape
    limits = limits or policy_limits(policy, N, M)
    allowed_LM = np.where(epsilon_LM <= period_s * (1 + 1e-12), epsilon_LM, np.inf)
    if policy == "stop-early":
        allowed_LM[N] = epsilon_LM[N]
    none = np.zeros((N + 1, M))
    busy = ResourceBudget(tau_NM, none[1:], none, np.full(M, period_s * (1 + 1e-12)))
    try:
        held = replace(limits, budgets=(*limits.budgets, busy))
        return solve_chain(tau_NM, allowed_LM, policy, held, return_M)
    except InfeasibleError:
        raise InfeasibleError(
            f"no split of {N} layers over {M} devices takes an image every {period_s * 1e3:g} ms under the "
            f"policy {policy}: expected a longer period, faster devices or links"
        ) from None


def _first_start(limits: DeviceLimits, m: int, N: int, early: bool) -> NDArray[np.intp]:
    """Give the first cut from which device m may run up to each cut, by its limits; (L,)."""
    first_L: NDArray[np.intp] = np.maximum(np.arange(N + 1) - limits.max_layers_M[m], 0)
    for budget in limits.budgets:
        first_L = np.maximum(first_L, budget.earliest_start(m, early))
    return first_L


@dataclass(frozen=True, slots=True)
class _Tries:
    """What stays from one period tried to the next: sums of tau, epsilon, first cuts, fewest layers."""

    sums_LM: Array
    epsilon_LM: Array
    first_LM: NDArray[np.intp]
    least_M: NDArray[np.int64]

    def below(self, period_s: float) -> Placement | None:
        """Give a placement whose period is below `period_s`, or None where there is none."""
        L, M = self.sums_LM.shape
        cuts_L = np.arange(L)
        fits_LM = self.epsilon_LM < period_s
        last_LM: NDArray[np.intp] = np.empty((L, M), dtype=np.intp)
        at_L = cuts_L == 0
        for m, least in enumerate(self.least_M.tolist()):
            last_L = np.maximum.accumulate(np.where(at_L, cuts_L, -1))
            last_LM[:, m] = np.concatenate([np.full(least, -1), last_L[: L - least]])[:L]
            last_L = last_LM[:, m]
            busy_L = self.sums_LM[:, m] - self.sums_LM[last_L, m]
            at_L = (last_L >= self.first_LM[:, m]) & fits_LM[:, m] & (busy_L < period_s)
        if not at_L[-1]:
            return None
        cuts = [L - 1]
        for m in range(M - 1, 0, -1):
            cuts.append(int(last_LM[cuts[-1], m]))
        return Placement(tuple(reversed(cuts)))
