"""Latency target T_const within the feasible range of T, and derivation of architectures for it."""

import itertools
from dataclasses import dataclass
from enum import StrEnum

from jmsnas.arrays import FloatArray
from jmsnas.errors import InfeasibleError, SearchLimitError
from jmsnas.nas.derivation.derive import MAX_NODES, DerivedArchitecture, best_architectures
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.units import format_duration

# Node limit of the check before training, about half a second.
_CHECK_NODES = 2000


class BandStatus(StrEnum):
    """Whether T of any architecture lies in the band below T_const; `undecided` at the node limit."""

    HOLDS = "holds networks"
    EMPTY = "empty"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class LatencyTarget:
    """T_const, and the range of T that architectures reach under their best split; seconds.

    `t_const_s` bounds the predicted T. Where a percentile of the measured T is to meet the deadline, it is
    `margin_s` below the deadline.
    """

    t_const_s: float
    fastest_s: float
    slowest_s: float
    percentile: int = 50
    margin_s: float = 0.0

    @property
    def deadline_s(self) -> float:
        """The deadline that the percentile of T is to meet."""
        return self.t_const_s + self.margin_s


def resolve_target(
    lut: LatencyLUT, t_const_s: float | None = None, known: LatencyTarget | None = None
) -> LatencyTarget:
    """Check T_const against the feasible range; None takes the middle of the range.

    `known`: a target of the same latency table, whose range is used instead of a new branch and bound.
    Raises InfeasibleError when T_const is below the range.
    """
    fastest_s, slowest_s = (known.fastest_s, known.slowest_s) if known else lut.feasible_range_s()
    middle_s = (fastest_s + slowest_s) / 2
    if t_const_s is not None and t_const_s < fastest_s:
        raise InfeasibleError(
            f"no architecture meets T_const {format_duration(t_const_s)} on {' - '.join(lut.devices)}: "
            f"the feasible range is {format_duration(fastest_s)} to {format_duration(slowest_s)}. "
            f"Try --t-const {middle_s * 1e3:.3g}ms"
        )
    return LatencyTarget(middle_s if t_const_s is None else t_const_s, fastest_s, slowest_s)


def targets_in_range(lut: LatencyLUT, count: int, known: LatencyTarget | None = None) -> list[LatencyTarget]:
    """Space `count` targets evenly inside the feasible range: 1 is its middle, 3 its quarters."""
    known = known or resolve_target(lut)
    fastest_s, width_s = known.fastest_s, known.slowest_s - known.fastest_s
    return [resolve_target(lut, fastest_s + width_s * k / (count + 1), known) for k in range(1, count + 1)]


def derive_for_target(
    p_NR: FloatArray,
    lut: LatencyLUT,
    target: LatencyTarget,
    band: float,
    count: int = 1,
    max_nodes: int = MAX_NODES,
) -> tuple[list[DerivedArchitecture], BandStatus]:
    """Derive in the band below T_const; where the band is empty or T_const above the range, below T_const.

    Returns up to `count` architectures, the likeliest first, and the status of the band. Raises
    InfeasibleError when none was found.
    """
    low_s, high_s = (1 - band) * target.t_const_s, target.t_const_s
    status = BandStatus.EMPTY
    if target.t_const_s <= target.slowest_s:
        try:
            found = list(itertools.islice(best_architectures(p_NR, lut, low_s, high_s, max_nodes), count))
        except SearchLimitError:
            found, status = [], BandStatus.UNDECIDED
        if found:
            return found, BandStatus.HOLDS
    try:
        found = list(itertools.islice(best_architectures(p_NR, lut, 0.0, high_s, max_nodes), count))
    except SearchLimitError:
        found = []
    if not found and lut.limited:
        raise InfeasibleError(
            f"no architecture with T <= {format_duration(high_s)} was found within the memory and energy of "
            f"{' - '.join(lut.devices)}: raise --t-const, or the limits in the topology file"
        )
    if not found:
        raise InfeasibleError(f"no architecture has T <= {format_duration(high_s)}: raise --t-const")
    return found, status


def check_resource_limits(lut: LatencyLUT, target: LatencyTarget, band: float) -> None:
    """Check before training that an architecture below T_const keeps the limits on memory and energy.

    The feasible range ignores these limits. Raises InfeasibleError when no architecture is found.
    """
    if lut.limited:
        uniform_NR = lut.mask_NR / lut.mask_NR.sum(axis=1, keepdims=True)
        derive_for_target(uniform_NR, lut, target, band, max_nodes=_CHECK_NODES)
