from dataclasses import replace
from functools import reduce
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiling_jobs import BLOCKS, PART, a_row

from jmsnas.profiler.table.latency_table import AnyRow
from jmsnas.profiler.table.pool_rows import pool_rows

QUIET, SLOWER = a_row(ratios=(1.0,)), a_row(ratios=(1.02,), level_s=4e-4)
HOT = "the host is at 91 C"


def test_ratio_is_the_median_over_the_samples_of_both() -> None:
    found = pool_rows(QUIET, SLOWER)
    # 42 samples in six steps: 0.995, 1, 1.005, 1.0149, 1.02, 1.0251; the 21st is 1.005, the 22nd 1.0149.
    assert found.ratio == pytest.approx((1.005 + 1.0149) / 2)
    # P(B <= 14) = 2.2 % of 42, P(B <= 15) = 4.4 %: the 15th and the 28th hold the median.
    assert (found.ratio_low, found.ratio_high) == pytest.approx((1.005, 1.0149))
    assert found.samples == (*QUIET.samples, *SLOWER.samples)
    assert found.process_rounds == (21, 21) and found.rounds == 42
    assert found.reference_s == pytest.approx(2e-4), "a level that jumped is a factor"
    assert found.converged and not pool_rows(QUIET, a_row(ratios=(1.04,))).converged


def test_what_each_process_met_is_kept() -> None:
    one = replace(QUIET, drift=0.3, interrupted=0.1, energy_j=2e-5, measured_at="2026-11-23")
    other = replace(SLOWER, drift=0.1, interrupted=0.15, measured_at="2026-11-24")
    found = pool_rows(one, other)
    assert (found.drift, found.interrupted, found.energy_j) == (0.3, 0.15, 2e-5)
    assert found.measured_at == "2026-11-24"
    assert pool_rows(one, replace(other, energy_j=3e-5)).energy_j == 3e-5
    both = pool_rows(replace(one, host_faults=(HOT, "a")), replace(other, host_faults=("b", HOT)))
    assert both.host_faults == (HOT, "a", "b")


def test_stages_stay_until_others_are_found() -> None:
    seen = replace(QUIET, stages=("stem",), stages_s=(1e-5,))
    assert pool_rows(seen, SLOWER).stages_s == (1e-5,)
    assert pool_rows(replace(seen, host_faults=(HOT,)), SLOWER) == replace(
        SLOWER, stages=("stem",), stages_s=(1e-5,)
    )
    assert pool_rows(seen, replace(SLOWER, stages=("stem",), stages_s=(2e-5,))).stages_s == (2e-5,)
    assert pool_rows(seen, replace(SLOWER, environment="another")).stages == ()


def test_eight_processes_are_kept_the_latest() -> None:
    rows = [a_row(ratios=(1 + 0.001 * number,)) for number in range(10)]
    found = reduce(pool_rows, rows)
    assert found.process_rounds == (21,) * 8
    assert found.samples == tuple(sample for row in rows[2:] for sample in row.samples)


@pytest.mark.parametrize("harm", [{"host_faults": (HOT,)}, {"interrupted": 0.21}])
def test_what_was_disturbed_is_replaced_not_diluted(harm: dict[str, object]) -> None:
    assert pool_rows(replace(QUIET, **harm), SLOWER) == SLOWER
    assert pool_rows(QUIET, replace(SLOWER, **harm)) == QUIET
    assert pool_rows(replace(QUIET, **harm), replace(SLOWER, **harm)).process_rounds == (21, 21)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (QUIET, replace(SLOWER, environment="another")),
        (replace(QUIET, kind="simulated", samples=(), process_rounds=()), SLOWER),
        (replace(QUIET, samples=(), process_rounds=()), SLOWER),
        (QUIET, replace(QUIET, energy_j=1e-5)),  # the same samples again
    ],
)
def test_rows_that_do_not_belong_together(before: AnyRow, after: AnyRow) -> None:
    assert pool_rows(before, after) == after


def test_parts_are_pooled_as_blocks_are() -> None:
    found = pool_rows(a_row(PART, (3.0,)), a_row(PART, (3.03,)))
    assert found.block == PART and found.process_rounds == (21, 21) and 3.0 < found.ratio < 3.03


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=12, unique=True))
def test_any_number_of_processes(ratios: list[float]) -> None:
    found = reduce(pool_rows, [a_row(BLOCKS[1], (ratio,)) for ratio in ratios])
    assert len(found.process_rounds) == min(8, len(ratios))
    assert sum(found.process_rounds) == len(found.samples) == found.rounds
    assert found.ratio == pytest.approx(median(found.samples))
    assert min(found.samples) <= found.ratio_low <= found.ratio <= found.ratio_high <= max(found.samples)
