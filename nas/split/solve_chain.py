"""Optimal split of a chain by equation (1), with limits per device: dynamic programming over (device, cut).

N layers, M devices, L = N + 1 cuts (cut c: the first c layers are done; cut 0 is the raw input). Device m,
from cut b to cut c, takes S_m[c] - S_m[b], the difference of prefix sums, and its call where b < c: so the
least over b is a running minimum, O(N M) in all; with limits it is a minimum over a window, O(N M log N).
Pure functions of arrays.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.placement import Placement
from jmsnas.nas.split.shared_weights import SharedWeight, repeated_bytes, repeated_bytes_between

# Sums of the same numbers in another order differ in the last digits: a limit reached exactly is met.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class ResourceBudget:
    """A limited resource of each device: bytes of memory or joules.

    Layers b+1 .. c on device m use the sum of `use_NM` over them, less what it counts more than once of
    `shared` weights, plus the largest `peak_NM` among them, plus `sent_LM[c, m]` for sending output c; at
    most `limit_M[m]` (infinite: unlimited).
    """

    use_NM: FloatArray
    peak_NM: FloatArray
    sent_LM: FloatArray
    limit_M: FloatArray
    shared: tuple[SharedWeight, ...] = ()

    def used_M(self, placement: Placement, stop_early: bool = False) -> FloatArray:
        """Use of each device under a placement, (M,); with `stop_early` nothing is sent after layer N."""
        N = len(self.use_NM)
        used_M = np.zeros(len(self.limit_M))
        for m, (layers, cut) in enumerate(zip(placement.layers, placement.cuts, strict=True)):
            rows = slice(layers.start - 1, layers.stop - 1)
            sent = 0.0 if stop_early and cut == N else self.sent_LM[cut, m]
            held = self.use_NM[rows, m].sum() - repeated_bytes(self.shared, range(rows.start, rows.stop))
            used_M[m] = held + self.peak_NM[rows, m].max(initial=0.0) + sent
        return used_M

    def holds(self, placement: Placement, stop_early: bool = False) -> bool:
        """Whether a placement is within the limit of every device."""
        return bool((self.used_M(placement, stop_early) <= self.limit_M * (1 + _ROUNDING)).all())

    def earliest_start(self, m: int, stop_early: bool = False) -> IntArray:
        """Least cut from which device m may run up to each cut c; (L,), c + 1 where there is none."""
        N = len(self.use_NM)
        cuts = np.arange(N + 1)
        if np.isinf(self.limit_M[m]):
            return np.zeros(N + 1, dtype=np.intp)
        sums_L = np.concatenate([[0.0], np.cumsum(self.use_NM[:, m])])
        free_L = self.limit_M[m] * (1 + _ROUNDING) - self.sent_LM[:, m]
        if stop_early:
            free_L[N] = self.limit_M[m] * (1 + _ROUNDING)
        # The use from a start at b never grows with b: bisect for the first b within the limit.
        peaks = range_min_table(-np.append(self.peak_NM[:, m], 0.0))
        low, high = np.zeros(N + 1, dtype=np.intp), cuts.astype(np.intp)
        while (low < high).any():
            middle = (low + high) // 2
            held_L = sums_L - sums_L[middle] - repeated_bytes_between(self.shared, middle, cuts)
            used_L = held_L - range_min(peaks, middle, np.maximum(cuts - 1, middle))
            fits = (used_L <= free_L) | (low == high)
            low, high = np.where(fits, low, middle + 1), np.where(fits, middle, high)
        return np.where((low == cuts) & (free_L < 0), cuts + 1, low)


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """Fewest and most layers of each device, and its limited resources."""

    min_layers_M: IntArray
    max_layers_M: IntArray
    budgets: tuple[ResourceBudget, ...] = ()

    def first_start_L(self, m: int, N: int, stop_early: bool = False) -> IntArray:
        """First cut from which device m may run up to each of N + 1 cuts, by layers and resources."""
        first_L: IntArray = np.maximum(np.arange(N + 1) - self.max_layers_M[m], 0)
        for budget in self.budgets:
            first_L = np.maximum(first_L, budget.earliest_start(m, stop_early))
        return first_L


def policy_limits(policy: str, N: int, M: int) -> DeviceLimits:
    """Make the limits of a policy alone: `strict` at least one layer per device, the others none."""
    least = 1 if policy == "strict" else 0
    return DeviceLimits(np.full(M, least), np.full(M, N))


def range_min_table(values: FloatArray) -> list[FloatArray]:
    """Make the sparse table of `range_min`: level k holds the minimum of 2^k values from each index on."""
    levels, span = [values], 1
    while 2 * span <= len(values):
        levels.append(np.minimum(levels[-1][:-span], levels[-1][span:]))
        span *= 2
    return levels


def range_min(levels: list[FloatArray], first: IntArray, last: IntArray) -> FloatArray:
    """Minimum of the values first .. last, both included, for arrays of windows; infinite where empty."""
    least = np.full(len(first), np.inf)
    length = last - first + 1
    level = np.frexp(np.maximum(length, 1))[1] - 1
    for k, values in enumerate(levels):
        here = (level == k) & (length > 0)
        least[here] = np.minimum(values[first[here]], values[last[here] - (1 << k) + 1])
    return least


class _Starts(NamedTuple):
    """Seconds of arrival at each cut less the device's prefix sum, and first and last cut to start from.

    `call_s` is spent where the device starts before the cut that it ends at.
    """

    left_L: FloatArray
    first_L: IntArray
    last_L: IntArray
    call_s: float


def solve_chain(
    tau_NM: FloatArray,
    epsilon_LM: FloatArray,
    policy: str = "strict",
    limits: DeviceLimits | None = None,
    return_M: FloatArray | None = None,
    call_M: FloatArray | None = None,
) -> tuple[float, Placement]:
    """Find the split of least T by equation (1) among those that the policy and the limits allow.

    Returns T in seconds, and the placement; optimal. Raises InfeasibleError when no split is allowed.

    Parameters
    ----------
    tau_NM
        Seconds of layer n on device m.
    epsilon_LM
        Seconds to send output n (row 0: the raw input) over the link after device m; last column 0.
    policy
        `strict`, `relay` or `stop-early`.
    limits
        Layers and resources of each device, in addition to the policy; None for the policy alone.
    return_M
        Seconds to send the result back from device m; None where it stays.
    call_M
        Seconds to call device m, where it runs any layer; None for no cost.
    """
    N, M = tau_NM.shape
    stop_early = policy == "stop-early"
    limits = limits or policy_limits(policy, N, M)
    least_M = np.maximum(limits.min_layers_M, 1 if policy == "strict" else 0)
    return_M = np.zeros(M) if return_M is None else return_M
    call_M = np.zeros(M) if call_M is None else call_M
    cuts = np.arange(N + 1)
    arrived_L = np.where(cuts == 0, 0.0, np.inf)
    starts: list[_Starts] = []
    ends_M = np.full(M, np.inf)
    for m, call_s in enumerate(call_M.tolist()):
        sums_L = np.concatenate([[0.0], np.cumsum(tau_NM[:, m])])
        first_L = limits.first_start_L(m, N, stop_early)
        last_L = cuts - least_M[m]
        left_L = arrived_L - sums_L
        starts.append(_Starts(left_L, first_L, last_L, call_s))
        least = max(int(least_M[m]), 1)
        if first_L.any():
            done_L = range_min(range_min_table(left_L), first_L, cuts - least) + sums_L + call_s
        else:
            done_L = np.full(N + 1, np.inf)
            running_L = np.minimum.accumulate(left_L)
            done_L[least:] = running_L[: N + 1 - least] + sums_L[least:] + call_s
        if not least_M[m]:  # no layer, no call
            done_L = np.where(first_L <= cuts, np.minimum(done_L, left_L + sums_L), done_L)
        if (stop_early and not least_M[m + 1 :].any()) or m == M - 1:
            ends_M[m] = done_L[N] + return_M[m]
        arrived_L = done_L + epsilon_LM[:, m]
    device = int(ends_M.argmin())
    if not np.isfinite(ends_M[device]):
        raise InfeasibleError(
            f"no split of {N} layers over {M} devices is allowed by policy {policy} and the devices' limits: "
            "loosen min_layers, max_layers, memory or energy, or use policy relay"
        )
    return float(ends_M[device]), Placement((*_trace_cuts(starts[: device + 1], N), *[N] * (M - device - 1)))


def _trace_cuts(starts: list[_Starts], N: int) -> tuple[int, ...]:
    """Trace the cuts back from the device on which layer N ends, the last in the list."""
    cuts = [N]
    for start in reversed(starts[1:]):
        first, last = start.first_L[cuts[-1]], start.last_L[cuts[-1]]
        starts_s = start.left_L[first : last + 1] + start.call_s
        if last == cuts[-1]:
            starts_s[-1] = start.left_L[last]
        cuts.append(int(first + starts_s.argmin()))
    return tuple(reversed(cuts))
