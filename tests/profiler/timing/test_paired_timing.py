"""A fake clock stands for the host: calls move it by what they cost, times drift, times noise."""

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from jmsnas.errors import InputError, MeasurementError
from jmsnas.profiler.table.measurement import Measurement
from jmsnas.profiler.timing.paired_timing import Clocks, TimedLoop, TimingConfig, measure, wall_clock

LONG = TimingConfig(budget_s=1e9, target=1e-12, max_rounds=200)
# Enough that no block reaches the target of LONG, too little to be seen elsewhere.
HARDLY = 1e-5


@dataclass
class Host:
    """Nanoseconds that pass only while something runs; something else holds the core for a share `lost`."""

    sigma: float = 0.0
    drift: Callable[[float], float] = lambda seconds: 1.0
    seed: int = 0
    now: float = 0.0
    core: float = 0.0
    lost: float = 0.0
    generator: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    def clock(self) -> int:
        return round(self.now)

    def core_clock(self) -> int:
        return round(self.core)

    def timed(self, seconds: float, sigma: float | None = None) -> TimedLoop:
        sigma = self.sigma if sigma is None else sigma

        def run() -> None:
            noise = math.exp(sigma * self.generator.standard_normal()) if sigma else 1.0
            passed = seconds * 1e9 * noise * self.drift(self.now * 1e-9)
            self.now += passed
            self.core += passed * (1 - self.lost)

        return wall_clock(run, self.clock)


def run(host: Host, seconds: list[float], config: TimingConfig, seed: int = 0) -> dict[int, Measurement]:
    found: dict[int, Measurement] = {}

    def finished(index: int, measurement: Measurement) -> None:
        assert index not in found, "handed out twice"
        found[index] = measurement

    blocks = [host.timed(s) for s in seconds]
    measure(blocks, [host.timed(1e-4)], finished, config, seed, clocks=Clocks(host.clock, host.core_clock))
    return found


def test_wall_clock_counts_the_calls() -> None:
    calls, ticks = list[int](), iter([5, 2005])
    assert wall_clock(lambda: calls.append(1), lambda: next(ticks))(4) == pytest.approx(2e-6)
    assert len(calls) == 4


def test_known_ratios_without_noise() -> None:
    # Reference 100 us; blocks of 25 us (8 calls a sample), 100 us and 1 ms (one call a sample).
    found = run(Host(), [25e-6, 100e-6, 1e-3], TimingConfig())
    assert [found[i].ratio for i in range(3)] == pytest.approx([0.25, 1.0, 10.0])
    assert found[0].reference_s == pytest.approx(1e-4)
    assert all(m.converged and len(m.samples) == 30 for m in found.values())
    assert all((m.drift, m.interrupted) == (pytest.approx(0, abs=1e-4), 0) for m in found.values())


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


def test_drift_is_that_of_the_reference_and_level_its_median() -> None:
    # A round runs 9 calls or 0.9 ms. The warm-up takes 15 ms and more, so fewer than 95 of the 200 rounds end
    # before 0.1 s, from where on calls take twice as long.
    host = Host(HARDLY, lambda seconds: 2.0 if seconds > 0.1 else 1.0)
    (found,) = run(host, [1e-4], LONG).values()
    assert found.drift == pytest.approx(1.0, abs=1e-3) and found.ratio == pytest.approx(1.0, abs=1e-3)
    assert found.reference_s == pytest.approx(2e-4, rel=1e-3)


def test_drift_leaves_single_rounds_out() -> None:
    host = Host(HARDLY, lambda seconds: 3.0 if 0.100 < seconds < 0.105 else 1.0)
    (found,) = run(host, [1e-4], LONG).values()
    assert found.drift == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(("lost", "interrupted"), [(0.0, 0.0), (0.09, 0.0), (0.11, 1.0), (0.9, 1.0)])
def test_round_that_lost_a_tenth_of_its_core_was_interrupted(lost: float, interrupted: float) -> None:
    (found,) = run(Host(HARDLY, lost=lost), [1e-4], LONG).values()
    assert found.interrupted == interrupted


def test_share_of_rounds_that_were_interrupted() -> None:
    host, rounds, found = Host(HARDLY), 25, list[Measurement]()

    def checked(*progress: Any) -> None:
        nonlocal rounds
        rounds += 5  # first after round 30
        host.lost = 0.5 if rounds >= 150 else 0.0

    measure(
        [host.timed(1e-4)],
        [host.timed(1e-4)],
        lambda index, m: found.append(m),
        LONG,
        progress=checked,
        clocks=Clocks(host.clock, host.core_clock),
    )
    # Rounds 151 to 200 of 200.
    assert found[0].interrupted == 0.25


def test_without_a_core_clock_nothing_is_interrupted() -> None:
    host, found = Host(lost=0.9), list[Measurement]()
    measure(
        [host.timed(1e-4)],
        [host.timed(1e-4)],
        lambda i, m: found.append(m),
        TimingConfig(),
        clocks=Clocks(host.clock),
    )
    assert found[0].interrupted == 0


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


def handed_out(config: TimingConfig) -> list[tuple[int, Measurement]]:
    """What is handed out of a quiet block (0.1 % noise) and a loud one (5 %), in order."""
    host, found = Host(), list[tuple[int, Measurement]]()
    blocks = [host.timed(1e-4, sigma) for sigma in (0.001, 0.05)]
    measure(
        blocks,
        [host.timed(1e-4)],
        lambda index, m: found.append((index, m)),
        config,
        clocks=Clocks(host.clock),
    )
    return found


def test_widest_go_on_to_half_the_target_and_again() -> None:
    found = handed_out(TimingConfig(budget_s=1e9, target=0.01, finest=0.003))
    # The quiet one is within 0.3 % at once. The loud one alone goes on: 1 %, 0.5 %, then 0.3 %.
    assert [index for index, _ in found] == [0, 1, 1, 1]
    loud = [m for index, m in found if index == 1]
    assert [m.half_width <= bound for m, bound in zip(loud, (0.01, 0.005, 0.003), strict=True)] == [True] * 3
    assert loud[0].half_width > 0.005 and loud[1].half_width > 0.003
    # What it had is kept: the later measurements are of the same samples and more.
    assert loud[2].samples[: len(loud[0].samples)] == loud[0].samples
    assert all(m.converged for m in loud)


def test_target_alone_hands_each_out_once() -> None:
    assert [index for index, _ in handed_out(TimingConfig(budget_s=1e9))] == [0, 1]


def test_end_of_the_time_hands_out_what_still_goes_on() -> None:
    found = handed_out(TimingConfig(budget_s=0.3, target=0.01, finest=1e-6))
    last = {index: m for index, m in found}
    assert all(m.converged and m.half_width > 1e-6 for m in last.values())
    assert len(last[1].samples) > len(next(m for index, m in found if index == 1).samples)


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


def watched(host: Host, index: int, met: list[int]) -> TimedLoop:
    """A block of 300 us that records each run."""
    spend = host.timed(3e-4)
    return lambda loops: (met.append(index), spend(loops))[1]


def test_seed_decides_the_order() -> None:
    def order(seed: int) -> list[int]:
        host, met = Host(), list[int]()
        blocks = [watched(host, index, met) for index in range(5)]
        measure(
            blocks, [host.timed(3e-4)], lambda i, m: None, TimingConfig(), seed, clocks=Clocks(host.clock)
        )
        return met

    assert order(1) == order(1) != order(2)


def test_garbage_collection_is_off_meanwhile_and_on_again() -> None:
    host, seen = Host(), list[bool]()
    spend = host.timed(1e-4)
    block: TimedLoop = lambda loops: (seen.append(gc.isenabled()), spend(loops))[1]  # noqa: E731
    measure([block], [host.timed(1e-4)], lambda index, m: None, TimingConfig(), clocks=Clocks(host.clock))
    assert gc.isenabled() and not any(seen)


def test_nothing_to_measure() -> None:
    assert run(Host(), [], TimingConfig()) == {}


@pytest.mark.parametrize("finest", [0.01, 0.002])
def test_progress_rises_to_the_end(finest: float) -> None:
    host, reported = Host(sigma=0.1), list[tuple[float, float]]()
    measure(
        [host.timed(1e-4)] * 3,
        [host.timed(1e-4)],
        lambda index, m: None,
        TimingConfig(budget_s=1.0, finest=finest),
        progress=lambda done, total, what: reported.append((done, total)),
        clocks=Clocks(host.clock),
    )
    done = [done for done, _ in reported]
    assert reported[-1] == (3, 3) and min(done) >= 0 and done == sorted(done)


def test_stopped_clock_is_refused() -> None:
    still = wall_clock(lambda: None, lambda: 5)
    with pytest.raises(
        MeasurementError, match=r"moved by 0 s over 1 calls: expected more than 0\. Check the"
    ):
        measure([still], [still], lambda i, m: None, TimingConfig(), clocks=Clocks(lambda: 5))


@pytest.mark.parametrize("wrong", [{"budget_s": 0}, {"target": 0}, {"sample_s": -1}, {"budget_s": math.nan}])
def test_impossible_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"expected numbers above 0. Give a budget such as --budget 60s"):
        TimingConfig(**wrong)


def test_references_take_turns_a_sample_each() -> None:
    # Copies of the reference that lie well and badly: 100 and 104 us. Their turns cancel, geometrically.
    host = Host()
    turns, met = [1e-4, 1.04e-4], list[int]()

    def copy(index: int) -> TimedLoop:
        timed = host.timed(turns[index])
        return lambda loops: (met.append(index), timed(loops))[1]

    found: list[Measurement] = []
    measure(
        [host.timed(1e-4)],
        [copy(0), copy(1)],
        lambda i, m: found.append(m),
        TimingConfig(),
        clocks=Clocks(host.clock),
    )
    assert found[0].ratio == pytest.approx(1 / math.sqrt(1.04))
    # A sample is an untimed call and a timed one: both of the same copy.
    sampled = met[-40:]
    assert sampled[::2] == sampled[1::2] and set(sampled) == {0, 1}
