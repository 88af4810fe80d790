"""T_const and the range of T that can be reached; the networks that are derived for it."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import TargetError
from jmsnas.nas.derive import Derived, best_networks
from jmsnas.nas.feasible import feasible_range_s
from jmsnas.nas.latency_lut import LatencyLUT
from jmsnas.units import format_duration


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
    most_nodes: int = 100_000,
) -> tuple[list[Derived], bool]:
    """Derive in the band; where it holds no network, or T_const is above all of them, the best below T_const.

    Returns up to `count` networks, the likeliest first, and whether they are in the band. Raises TargetError
    when none was found.
    """
    low_s = (1 - band) * target.t_const_s
    for at_least_s in (low_s, 0.0) if target.t_const_s <= target.slowest_s else (0.0,):
        found = list(
            itertools.islice(best_networks(p_NR, lut, at_least_s, target.t_const_s, most_nodes), count)
        )
        if found:
            return found, at_least_s > 0
    raise TargetError(f"no network with T <= {format_duration(target.t_const_s)} was found: raise --t-const")
