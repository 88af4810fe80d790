from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from jmsnas.profiler.table.measurement import MIN_ROUNDS, Measurement, median_interval, summarise


def test_interval_of_order_statistics() -> None:
    # Six samples: 1 - 2 * 0.5^6 = 0.969 >= 0.95, so the extremes.
    # Ten: P(B <= 1) = 11 / 1024 = 1.07 % <= 2.5 %, P(B <= 2) = 56 / 1024 = 5.5 %: second and ninth.
    assert median_interval([6, 1, 2, 3, 4, 5]) == (3.5, 1, 6)
    assert median_interval(range(1, 11)) == (5.5, 2, 9)


@pytest.mark.parametrize("count", [*range(MIN_ROUNDS, 60), 101, 555, 2000, 16000])
def test_ranks_are_the_innermost_that_hold_95_per_cent(count: int) -> None:
    _, low, high = median_interval(range(count))
    assert low + high == count - 1, "as far from either end"
    # `low` samples lie outside on each side: all of them under the median by chance in 2.5 % at most.
    assert binom.cdf(low, count, 0.5) <= 0.025 < binom.cdf(low + 1, count, 0.5)


def test_fewer_than_six_samples_give_their_extremes_and_never_converge() -> None:
    for count in range(1, MIN_ROUNDS):
        assert median_interval(range(count))[1:] == (0, count - 1)
        assert not summarise([1.0] * count, 1.0, 0.01).converged
    assert summarise([1.0] * MIN_ROUNDS, 1.0, 0.01).converged


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60))
def test_interval_holds_the_median(samples: list[float]) -> None:
    median, low, high = median_interval(samples)
    assert min(samples) <= low <= median <= high <= max(samples)


@pytest.mark.parametrize("count", [6, 30, 101])
def test_interval_covers_the_true_median(count: int) -> None:
    # Lognormal: the true median is 1. Binomial intervals cover at least 95 %; 2,000 trials have sd 0.5 %.
    trials = np.random.default_rng(1).lognormal(0.0, 0.3, (2000, count))
    covered = [low <= 1 <= high for _, low, high in map(median_interval, trials)]
    assert np.mean(covered) >= 0.94


def test_half_width_falls_with_the_root_of_the_samples() -> None:
    drawn = np.random.default_rng(2).lognormal(0.0, 0.05, 6400)
    widths = [summarise(drawn[:count], 1.0, 0.01).half_width for count in (100, 400, 1600, 6400)]
    assert all(narrow == pytest.approx(wide / 2, rel=0.35) for wide, narrow in pairwise(widths))


def test_summary_by_hand() -> None:
    # The median of 97 ... 103 % and its extremes, of seven samples: half width 3 %.
    found = summarise([1.01, 0.99, 1.0, 0.98, 1.02, 0.97, 1.03], 2e-4, 0.031, drift=0.5, interrupted=0.1)
    assert found == Measurement(
        1.0, 0.97, 1.03, 2e-4, True, (1.01, 0.99, 1.0, 0.98, 1.02, 0.97, 1.03), 0.5, 0.1
    )
    assert found.half_width == pytest.approx(0.03)
    assert not summarise(found.samples, 2e-4, 0.029).converged
