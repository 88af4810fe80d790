"""T_const and the range of T that can be reached; the networks that are derived for it."""

import itertools
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import TargetError, UndecidedError
from jmsnas.nas.derivation.derive import MOST_NODES, Derived, best_networks
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.latency.feasible_range import feasible_range_s
from jmsnas.units import format_duration

# Limits that no network keeps are seldom proven so: half a second is spent on them.
_NODES_BEFORE = 2000


class Band(StrEnum):
    """Whether networks' T lies in the band below T_const: `undecided` where the search was cut off."""

    HOLDS = "holds networks"
    EMPTY = "empty"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Target:
    """T_const, and the range of T that networks reach under their best split; seconds."""

    t_const_s: float
    fastest_s: float
    slowest_s: float


def choose_target(lut: LatencyLUT, t_const_s: float | None) -> Target:
    """Check T_const against the feasible range, or take its middle. Raises TargetError."""
    fastest_s, slowest_s = feasible_range_s(lut)
    middle_s = (fastest_s + slowest_s) / 2
    if t_const_s is not None and t_const_s < fastest_s:
        raise TargetError(
            f"no network meets T_const {format_duration(t_const_s)} on {' - '.join(lut.devices)}: "
            f"the feasible range is {format_duration(fastest_s)} to {format_duration(slowest_s)}. "
            f"Try --t-const {middle_s * 1e3:.3g}ms"
        )
    return Target(middle_s if t_const_s is None else t_const_s, fastest_s, slowest_s)


def targets_between(lut: LatencyLUT, count: int) -> list[float]:
    """Give `count` values of T_const inside the feasible range: 1 its middle, 3 its quarters; seconds."""
    fastest_s, slowest_s = feasible_range_s(lut)
    return [fastest_s + (slowest_s - fastest_s) * k / (count + 1) for k in range(1, count + 1)]


def derive_for(
    p_NR: NDArray[np.float64],
    lut: LatencyLUT,
    target: Target,
    band: float,
    count: int = 1,
    most_nodes: int = MOST_NODES,
) -> tuple[list[Derived], Band]:
    """Derive in the band; where it holds no network, or T_const is above all of them, the best below T_const.

    Returns up to `count` networks, the likeliest first, and what is known of the band. Raises TargetError
    when none was found.
    """
    low_s, high_s = (1 - band) * target.t_const_s, target.t_const_s
    known = Band.EMPTY
    if target.t_const_s <= target.slowest_s:
        try:
            found = list(itertools.islice(best_networks(p_NR, lut, low_s, high_s, most_nodes), count))
        except UndecidedError:
            found, known = [], Band.UNDECIDED
        if found:
            return found, Band.HOLDS
    try:
        found = list(itertools.islice(best_networks(p_NR, lut, 0.0, high_s, most_nodes), count))
    except UndecidedError:
        found = []
    if not found and lut.limited:
        raise TargetError(
            f"no network with T <= {format_duration(high_s)} was found within the memory and energy of "
            f"{' - '.join(lut.devices)}: raise --t-const, or the limits in the network file"
        )
    if not found:
        raise TargetError(f"no network has T <= {format_duration(high_s)}: raise --t-const")
    return found, known


def check_limits(lut: LatencyLUT, target: Target, band: float) -> None:
    """Look, before any training, for a network that memory and energy allow below T_const.

    The feasible range does not know these limits. Raises TargetError when none is found.
    """
    if lut.limited:
        flat_NR = lut.mask_NR / lut.mask_NR.sum(axis=1, keepdims=True)
        derive_for(flat_NR, lut, target, band, most_nodes=_NODES_BEFORE)
