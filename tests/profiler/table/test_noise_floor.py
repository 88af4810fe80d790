import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiling_jobs import BLOCKS, PART, a_row

from jmsnas.profiler.table.noise_floor import (
    NoiseFloor,
    noise_floor,
    process_ratios,
    replicate_gap,
    widened_interval,
)


def gaps(*values: float) -> list[object]:
    """Rows with these differences (logarithms) between two processes, and a row of one process."""
    return [a_row(), *(a_row(ratios=(1.0, math.exp(gap))) for gap in values)]


def test_ratio_of_each_process() -> None:
    row = a_row(ratios=(2.0, 2.1, 1.9))
    assert process_ratios(row) == pytest.approx((2.0, 2.1, 1.9))
    assert replicate_gap(row) == pytest.approx(math.log(1.05)), "of the first two"
    assert replicate_gap(a_row()) is None
    # Processes of unlike length: 3 and 1 of the samples.
    row = replace(a_row(), samples=(1.0, 9.0, 2.0, 4.0), process_rounds=(3, 1))
    assert process_ratios(row) == (2.0, 4.0) and replicate_gap(row) == pytest.approx(math.log(2))


def test_floor_by_hand() -> None:
    # Gaps of 1, 2, 3 %: median 2 %, 90th percentile 2.8 % (eight tenths of the way from 2 to 3).
    # sigma = max(2 / 0.6745, 2.8 / 1.6449) = 2.965 %; 1.95996 sqrt(3 / 0.58437),
    # the 10 % quantile of chi squared with 3 degrees, is 4.4408.
    found = noise_floor(gaps(0.01, 0.02, 0.03))
    assert found is not None and found.rows == 3
    assert (found.median_gap, found.p90_gap) == pytest.approx((0.02, 0.028))
    assert found.spread == pytest.approx(4.4408 * 0.02 / 0.6745, rel=1e-4)


def test_tail_widens_the_floor_that_the_median_does_not_see() -> None:
    # Four of 0.1 % and one of 10 %: the 90th percentile is 0.1 + 0.6 * 9.9 = 6.04 %.
    found = noise_floor(gaps(0.001, 0.001, 0.001, 0.001, 0.1))
    # 1.95996 sqrt(5 / 1.61031) = 3.4536.
    assert found is not None and found.p90_gap == pytest.approx(0.0604)
    assert found.spread == pytest.approx(3.4536 * 0.0604 / 1.6449, rel=1e-4)


def test_single_gap_is_hardly_known() -> None:
    found = noise_floor([a_row(PART, (1.0, math.exp(0.01)))])
    # 1.95996 sqrt(1 / 0.015791) = 15.597.
    assert found is not None and found.spread == pytest.approx(15.597 * 0.01 / 0.6745, rel=1e-4)


def test_no_floor_without_a_second_process() -> None:
    assert noise_floor([]) is None and noise_floor(gaps()) is None


def test_widened_interval_by_hand() -> None:
    # In logarithms 3 and 4 are the sides of 5.
    row = replace(a_row(), ratio=2.0, ratio_low=2 * math.exp(-0.03), ratio_high=2 * math.exp(0.03))
    low, high = widened_interval(row, NoiseFloor(9, 0.01, 0.02, 0.04))
    assert (low, high) == pytest.approx((2 * math.exp(-0.05), 2 * math.exp(0.05)))
    assert widened_interval(row, None) == pytest.approx((row.ratio_low, row.ratio_high))


def test_own_gap_counts_where_it_is_the_larger() -> None:
    # Two processes 8 % apart; within them 6 % either way (in logarithms): 6 and 8 are the sides of 10.
    row = replace(
        a_row(ratios=(1.0, math.exp(0.08))), ratio_low=math.exp(-0.06), ratio=1.0, ratio_high=math.exp(0.06)
    )
    for floor in (None, NoiseFloor(9, 0.01, 0.02, 0.04)):
        assert widened_interval(row, floor) == pytest.approx((math.exp(-0.1), math.exp(0.1)))


@given(st.floats(0.01, 100), st.floats(0, 0.2), st.floats(0, 0.2), st.floats(0, 1), st.floats(-0.3, 0.3))
def test_widened_interval_holds_the_one_within_a_process(
    ratio: float, below: float, above: float, spread: float, gap: float
) -> None:
    row = replace(
        a_row(ratios=(ratio, ratio * (1 + gap))),
        ratio=ratio, ratio_low=ratio * (1 - below), ratio_high=ratio * (1 + above),
    )  # fmt: skip
    low, high = widened_interval(row, NoiseFloor(1, spread, spread, spread))
    slack = 1 + 1e-12
    assert low <= row.ratio_low * slack and row.ratio_high <= high * slack
    assert high / low >= math.exp(2 * spread) / slack


def test_another_process_is_found_within_it() -> None:
    # Every process finds a block 1 % (sd) off its true ratio. Of 53 blocks 8 were measured by two processes:
    # of how many such tables does a second process find 90 % of the other 45 rows in their widened intervals?
    generator, good = np.random.default_rng(7), 0
    for _ in range(200):
        found, held = np.exp(0.01 * generator.standard_normal((53, 2))), list[bool]()
        floor = noise_floor(a_row(BLOCKS[0], pair) for pair in found[:8].tolist())
        for once, other in found[8:].tolist():
            low, high = widened_interval(a_row(BLOCKS[0], (once,), half_width=1e-4), floor)
            held.append(low <= other <= high)
        good += float(np.mean(held)) >= 0.9
    assert good >= 185


def test_processes_that_disagree_by_factors_leave_finite_seconds() -> None:
    # As in a table of six samples per row on a stalling host: a factor of 50.
    rows = [a_row(ratios=(1.0, 50.0)), a_row(BLOCKS[1], ratios=(50.0, 1.0))]
    floor = noise_floor(rows)
    assert floor is not None and floor.spread == pytest.approx(math.log(100))
    for row in rows:
        low, high = widened_interval(row, floor)
        assert row.ratio / 1000 < low < row.ratio < high < 1000 * row.ratio
