"""T_const and the range of T that can be reached; the networks that are derived for it."""

import itertools
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import InfeasibleError, SearchLimitError
from jmsnas.nas.derivation.derive import MAX_NODES, DerivedArchitecture, best_architectures
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.latency.feasible_range import feasible_range_s
from jmsnas.units import format_duration

# Limits that no network keeps are seldom proven so: half a second is spent on them.
_NODES_BEFORE = 2000


class BandStatus(StrEnum):
    """Whether networks' T lies in the band below T_const: `undecided` where the search was cut off."""

    HOLDS = "holds networks"
    EMPTY = "empty"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class LatencyTarget:
    """T_const, and the range of T that networks reach under their best split; seconds."""

    t_const_s: float
    fastest_s: float
    slowest_s: float


def resolve_target(lut: LatencyLUT, t_const_s: float | None) -> LatencyTarget:
    """Check T_const against the feasible range, or take its middle. Raises TargetError."""
    fastest_s, slowest_s = feasible_range_s(lut)
    middle_s = (fastest_s + slowest_s) / 2
    if t_const_s is not None and t_const_s < fastest_s:
        raise InfeasibleError(
            f"no network meets T_const {format_duration(t_const_s)} on {' - '.join(lut.devices)}: "
            f"the feasible range is {format_duration(fastest_s)} to {format_duration(slowest_s)}. "
            f"Try --t-const {middle_s * 1e3:.3g}ms"
        )
    return LatencyTarget(middle_s if t_const_s is None else t_const_s, fastest_s, slowest_s)


def targets_in_range(lut: LatencyLUT, count: int) -> list[float]:
    """Give `count` values of T_const inside the feasible range: 1 its middle, 3 its quarters; seconds."""
    fastest_s, slowest_s = feasible_range_s(lut)
    return [fastest_s + (slowest_s - fastest_s) * k / (count + 1) for k in range(1, count + 1)]


def derive_for_target(
    p_NR: NDArray[np.float64],
    lut: LatencyLUT,
    target: LatencyTarget,
    band: float,
    count: int = 1,
    max_nodes: int = MAX_NODES,
) -> tuple[list[DerivedArchitecture], BandStatus]:
    """Derive in the band; where it holds no network, or T_const is above all of them, the best below T_const.

    Returns up to `count` networks, the likeliest first, and what is known of the band. Raises TargetError
    when none was found.
    """
    low_s, high_s = (1 - band) * target.t_const_s, target.t_const_s
    known = BandStatus.EMPTY
    if target.t_const_s <= target.slowest_s:
        try:
            found = list(itertools.islice(best_architectures(p_NR, lut, low_s, high_s, max_nodes), count))
        except SearchLimitError:
            found, known = [], BandStatus.UNDECIDED
        if found:
            return found, BandStatus.HOLDS
    try:
        found = list(itertools.islice(best_architectures(p_NR, lut, 0.0, high_s, max_nodes), count))
    except SearchLimitError:
        found = []
    if not found and lut.limited:
        raise InfeasibleError(
            f"no network with T <= {format_duration(high_s)} was found within the memory and energy of "
            f"{' - '.join(lut.devices)}: raise --t-const, or the limits in the network file"
        )
    if not found:
        raise InfeasibleError(f"no network has T <= {format_duration(high_s)}: raise --t-const")
    return found, known


def check_resource_limits(lut: LatencyLUT, target: LatencyTarget, band: float) -> None:
    """Look, before any training, for a network that memory and energy allow below T_const.

    The feasible range does not know these limits. Raises TargetError when none is found.
    """
    if lut.limited:
        flat_NR = lut.mask_NR / lut.mask_NR.sum(axis=1, keepdims=True)
        derive_for_target(flat_NR, lut, target, band, max_nodes=_NODES_BEFORE)
