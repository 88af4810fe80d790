import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from synthetic_luts import random_lut

from jmsnas.arrays import FloatArray
from jmsnas.errors import InfeasibleError, InputError, UnitError
from jmsnas.nas.search.percentile_target import (
    PERCENTILES,
    interval_ratios,
    parse_target,
    percentile_target,
)
from jmsnas.space import Block

# The 95th percentile is 1.2 times the median, the 99th 1.5 times.
RATIOS = tuple(float(np.interp(p, (50, 95, 99), (1.0, 1.2, 1.5))) for p in PERCENTILES)


def test_targets_with_and_without_a_percentile() -> None:
    assert parse_target("5ms") == (5e-3, 50) and parse_target("2.5s@p95") == (2.5, 95)
    for text in ("5ms@", "5ms@95", "5ms@p5", "5ms@p100", "5ms@p49", "5ms@p-1"):
        with pytest.raises(InputError, match=r"expected a percentile from p50 to p99, as in 5ms@p95"):
            parse_target(text)
    with pytest.raises(UnitError, match="'soon' is not a duration"):
        parse_target("soon@p95")


def test_a_search_bounds_t_below_the_deadline_by_the_margin() -> None:
    lut = random_lut(4, 3, 2, 1)
    fastest_s, slowest_s = lut.feasible_range_s()
    deadline_s = 1.3 * fastest_s
    target = percentile_target(lut, deadline_s, 95, RATIOS)
    assert target.t_const_s == pytest.approx(deadline_s / 1.2) and target.percentile == 95
    assert target.deadline_s == pytest.approx(deadline_s) and target.fastest_s == fastest_s
    assert percentile_target(lut, deadline_s, 50, RATIOS).margin_s == 0
    assert target.slowest_s == slowest_s


def test_an_unreachable_percentile_names_the_reachable_one() -> None:
    lut = random_lut(4, 3, 2, 1)
    fastest_s, _ = lut.feasible_range_s()
    deadline_s = 1.22 * fastest_s
    with pytest.raises(
        InfeasibleError, match=r"no architecture meets T_const .* at p99: the spread of T leaves"
    ) as found:
        percentile_target(lut, deadline_s, 99, RATIOS)
    # 1.2 + 0.3 (p - 95) / 4 <= 1.22 up to p95.
    first, other = str(found.value).split("Reachable: --t-const ")[1].split(", or --t-const ")
    assert first.endswith("@p95") and other.endswith("@p99")
    for text in (first, other):
        seconds, percentile = parse_target(text)
        assert percentile_target(lut, seconds, percentile, RATIOS).t_const_s >= fastest_s
    assert parse_target(other)[0] == pytest.approx(1.5 * fastest_s, abs=1e-6)
    with pytest.raises(InfeasibleError, match="no architecture meets T_const .*the feasible range is"):
        percentile_target(lut, 0.9 * fastest_s, 99, RATIOS)


def test_ratios_of_prediction_intervals() -> None:
    def estimator(factor: float) -> SimpleNamespace:
        def interval_s(blocks: Sequence[Block]) -> tuple[FloatArray, FloatArray]:
            return np.full(3, 1 / factor), np.full(3, factor)

        return SimpleNamespace(interval_s=interval_s)

    # A 90 % interval ends at the 95th percentile: that of the device with the widest intervals.
    ratios = interval_ratios([estimator(1.1), estimator(1.3)], [])  # type: ignore[list-item]
    assert ratios[0] == pytest.approx(1.0) and ratios[95 - 50] == pytest.approx(1.3)
    assert math.log(ratios[99 - 50]) == pytest.approx(math.log(1.3) * 2.3263 / 1.6449, rel=1e-4)
