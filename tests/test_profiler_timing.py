"""A fake clock stands for the host: calls move it by what they cost, times drift, times noise."""

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmsnas.errors import InputError, MeasurementError
from jmsnas.profiler.timing import Measurement, TimingConfig, measure, median_interval, summarise

LONG = TimingConfig(budget_s=1e9, target=1e-12, max_rounds=200)


@dataclass
class Host:
    """Nanoseconds that pass only while something runs."""

    sigma: float = 0.0
    drift: Callable[[float], float] = lambda seconds: 1.0
    seed: int = 0
    now: float = 0.0
    generator: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    def clock(self) -> int:
        return round(self.now)

    def call(self, seconds: float) -> Callable[[], None]:
        def run() -> None:
            noise = math.exp(self.sigma * self.generator.standard_normal()) if self.sigma else 1.0
            self.now += seconds * 1e9 * noise * self.drift(self.now * 1e-9)

        return run


def run(host: Host, seconds: list[float], config: TimingConfig, seed: int = 0) -> dict[int, Measurement]:
    found: dict[int, Measurement] = {}

    def finished(index: int, measurement: Measurement) -> None:
        assert index not in found, "handed out twice"
        found[index] = measurement

    calls = [host.call(s) for s in seconds]
    measure(calls, host.call(1e-4), finished, config, seed, clock=host.clock)
    return found


def test_interval_of_order_statistics() -> None:
    # Six samples: 1 - 2 * 0.5^6 = 0.969 >= 0.95, so the extremes.
    # Ten: P(B <= 1) = 11 / 1024 = 1.07 % <= 2.5 %, P(B <= 2) = 56 / 1024 = 5.5 %: second and ninth.
    assert median_interval([6, 1, 2, 3, 4, 5]) == (3.5, 1, 6)
    assert median_interval(range(1, 11)) == (5.5, 2, 9)


def test_too_few_samples_never_converge() -> None:
    assert not summarise([1.0] * 5, 1.0, 0.01).converged
    assert summarise([1.0] * 6, 1.0, 0.01).converged


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60))
def test_interval_holds_the_median(samples: list[float]) -> None:
    median, low, high = median_interval(samples)
    assert min(samples) <= low <= median <= high <= max(samples)


@pytest.mark.parametrize("count", [6, 30, 101])
def test_interval_covers_the_true_median(count: int) -> None:
    # Lognormal: the true median is 1. Binomial intervals cover at least 95 %; 2,000 trials have sd 0.5 %.
    generator = np.random.default_rng(1)
    trials = generator.lognormal(0.0, 0.3, (2000, count))
    covered = [low <= 1 <= high for _, low, high in map(median_interval, trials)]
    assert np.mean(covered) >= 0.94


def test_known_ratios_without_noise() -> None:
    # Reference 100 us; blocks of 25 us (8 calls a sample), 100 us and 1 ms (one call a sample).
    found = run(Host(), [25e-6, 100e-6, 1e-3], TimingConfig())
    assert [found[i].ratio for i in range(3)] == pytest.approx([0.25, 1.0, 10.0])
    assert found[0].reference_s == pytest.approx(1e-4)
    assert all(m.converged and len(m.samples) == 30 for m in found.values())


@pytest.mark.parametrize("seed", range(10))
def test_drift_half_way_moves_ratios_little(seed: int) -> None:
    blocks = [20e-6, 80e-6, 130e-6, 700e-6]
    steady = run(Host(sigma=0.03, seed=seed), blocks, LONG, seed)
    host = Host(sigma=0.03, seed=seed)
    # 200 rounds of about 4 blocks and 5 references last about 0.6 s with their warm-up calls.
    host.drift = lambda seconds: 1.1 if seconds > 0.3 else 1.0
    drifted = run(host, blocks, LONG, seed)
    for index in range(len(blocks)):
        assert drifted[index].ratio == pytest.approx(steady[index].ratio, rel=0.005)


def test_stopping_rule_covers_the_true_ratio() -> None:
    # Noise of 5 % a call; 40 runs of 5 blocks; looking every fifth round costs some of the 95 %.
    covered, rounds = [], []
    for seed in range(40):
        found = run(Host(sigma=0.05, seed=seed), [1e-4] * 5, TimingConfig(budget_s=1e9), seed)
        assert all(m.converged and m.half_width <= 0.01 for m in found.values())
        covered += [m.ratio_low <= 1 <= m.ratio_high for m in found.values()]
        rounds += [len(m.samples) for m in found.values()]
    assert np.mean(covered) >= 0.88
    assert min(rounds) >= 30 and len(set(rounds)) > 3


def test_time_cap_hands_out_what_is_left_unconverged() -> None:
    found = run(Host(sigma=0.3), [1e-4, 2e-4], TimingConfig(budget_s=0.05))
    assert len(found) == 2 and not any(m.converged for m in found.values())
    # Even a budget that is over at once leaves six samples, the fewest that have an interval.
    found = run(Host(sigma=0.3), [1e-4, 2e-4], TimingConfig(budget_s=1e-9))
    assert {len(m.samples) for m in found.values()} == {6}


def test_last_round_hands_out_what_is_left() -> None:
    found = run(Host(sigma=0.5), [1e-4], TimingConfig(budget_s=1e9, max_rounds=50))
    assert len(found[0].samples) == 50 and not found[0].converged


def test_restless_host_does_not_hold_up_the_warm_up() -> None:
    host = Host()
    host.drift = lambda seconds: 1 + seconds  # every window of 25 samples is slower than the last
    found = run(host, [1e-4], TimingConfig(warm_up_s=0.05))
    assert found[0].ratio == pytest.approx(1, rel=0.01)


def test_seed_decides_the_order() -> None:
    def order(seed: int) -> list[int]:
        host, met = Host(), list[int]()

        def call(index: int) -> Callable[[], None]:
            spend = host.call(3e-4)
            return lambda: (met.append(index), spend())[1]

        measure(
            [call(i) for i in range(5)],
            host.call(3e-4),
            lambda index, m: None,
            TimingConfig(),
            seed,
            clock=host.clock,
        )
        return met

    assert order(1) == order(1) != order(2)


def test_garbage_collection_is_off_meanwhile_and_on_again() -> None:
    host, seen = Host(), list[bool]()
    spend = host.call(1e-4)
    measure(
        [lambda: (seen.append(gc.isenabled()), spend())],
        host.call(1e-4),
        lambda index, m: None,
        TimingConfig(),
        clock=host.clock,
    )
    assert gc.isenabled() and not any(seen)


def test_nothing_to_measure() -> None:
    assert run(Host(), [], TimingConfig()) == {}


def test_progress_rises_to_the_end() -> None:
    host, told = Host(sigma=0.1), list[tuple[float, float]]()
    measure(
        [host.call(1e-4)] * 3,
        host.call(1e-4),
        lambda index, m: None,
        TimingConfig(budget_s=1.0),
        progress=lambda done, total, what: told.append((done, total)),
        clock=host.clock,
    )
    assert told[-1] == (3, 3) and all(0 <= done <= 3 for done, _ in told)


def test_standing_clock_is_refused() -> None:
    with pytest.raises(MeasurementError, match=r"moved by 0 ns over 1 calls: expected more than 0"):
        measure([lambda: None], lambda: None, lambda i, m: None, TimingConfig(), clock=lambda: 5)


def test_impossible_budget_is_refused() -> None:
    with pytest.raises(InputError, match=r"within 0 s: expected numbers above 0. Give a budget such as"):
        TimingConfig(budget_s=0)
