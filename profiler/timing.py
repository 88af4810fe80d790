"""Time blocks so that drift cancels: short samples, each between two equally short ones of a reference block.

A shared host changes its speed by half for milliseconds up to minutes; the ratio of a block to a reference
timed right before and right after it stands still. So the ratio is what is measured, over rounds through all
blocks in random order, and the reference's own level in seconds is reported apart.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat

import numpy as np

from jmsnas.errors import InputError, MeasurementError
from jmsnas.progress import Progress, silent

Call = Callable[[], object]
Clock = Callable[[], int]

# Six samples are the fewest whose extremes hold the median with 95 %: 1 - 2 * 0.5^6 = 0.969.
FEWEST_ROUNDS = 6
# Looking seldom keeps the stopping rule from picking the moment at which the interval is luckily narrow.
_LOOK_EVERY = 5
_WINDOW = 25


@dataclass(frozen=True, slots=True)
class TimingConfig:
    """How long to sample and when a block is done.

    Attributes
    ----------
    sample_s
        Length of one sample, seconds; a faster block is called several times in a row.
    target
        Half width of the ratio's 95 % interval, as a share of the ratio, at which a block is done.
    min_rounds, max_rounds
        Fewest samples before a block may be done; most before it is handed out as it is.
    budget_s
        Seconds of sampling after which what is left is handed out as it is.
    warm_up_s
        Longest wait for a steady level, seconds; on a restless host none may come.
    """

    sample_s: float = 2e-4
    target: float = 0.01
    min_rounds: int = 30
    max_rounds: int = 2000
    budget_s: float = 30.0
    warm_up_s: float = 2.0

    def __post_init__(self) -> None:
        """Refuse limits that no measurement can keep."""
        if not (self.sample_s > 0 and self.target > 0 and self.budget_s > 0):
            raise InputError(
                f"cannot measure in samples of {self.sample_s} s to {self.target} of the ratio within "
                f"{self.budget_s} s: expected numbers above 0. Give a budget such as --budget 60s"
            )


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is known about a block, with its doubt.

    `ratio` is the median of `samples` (seconds of the block / seconds of the reference), `ratio_low` and
    `ratio_high` its 95 % interval, `reference_s` the reference's level in seconds so far in the run,
    `converged` whether the half width reached the target.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    reference_s: float
    converged: bool
    samples: tuple[float, ...]

    @property
    def half_width(self) -> float:
        """Half width of the interval as a share of the ratio."""
        return (self.ratio_high - self.ratio_low) / (2 * self.ratio)


@lru_cache(maxsize=4096)
def _lower_rank(count: int) -> int:
    tail, below = 0, 0
    for rank in range(count // 2):
        tail += math.comb(count, rank)
        # P(fewer than rank + 1 of `count` samples lie under the median) <= 2.5 %, in whole numbers.
        if 40 * tail > 2**count:
            break
        below = rank
    return below


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median and its 95 % confidence interval by order statistics (binomial), with no law assumed.

    Fewer than six samples hold no such interval: then the extremes are given.
    """
    ordered = np.sort(np.asarray(samples, dtype=float))
    rank = _lower_rank(len(ordered))
    return float(np.median(ordered)), float(ordered[rank]), float(ordered[-1 - rank])


def summarise(samples: Sequence[float], reference_s: float, target: float) -> Measurement:
    """Make the measurement of a block from its ratios to the reference and the reference's level."""
    ratio, low, high = median_interval(samples)
    enough = len(samples) >= FEWEST_ROUNDS
    return Measurement(
        ratio, low, high, reference_s, enough and high - low <= 2 * target * ratio, tuple(samples)
    )


def measure(
    calls: Sequence[Call],
    reference: Call,
    finished: Callable[[int, Measurement], None],
    config: TimingConfig,
    seed: int = 0,
    progress: Progress = silent,
    clock: Clock = time.perf_counter_ns,
) -> None:
    """Time every call against the reference, and hand each out the moment it is done.

    Parameters
    ----------
    calls, reference
        The blocks and the reference block, ready to run.
    finished
        Called once for each block with its index and measurement; at the time cap or the last round
        with `converged=False` where the target was not reached.
    config, seed
        When to stop; what the order within the rounds is drawn from.
    progress
        Called after every round with how many of the blocks' worth of sampling is done.
    clock
        Nanoseconds that never step back.

    Raises
    ------
    MeasurementError
        When a call takes no time at all on this clock.
    """
    generator = np.random.default_rng(seed)
    with _no_garbage_collection():
        loops = [_calibrate(call, config.sample_s, clock) for call in calls]
        reference_loops = _calibrate(reference, config.sample_s, clock)
        _warm_up(reference, reference_loops, config.warm_up_s, clock)
        samples: list[list[float]] = [[] for _ in calls]
        levels: list[float] = []
        left, began, rounds, done = list(range(len(calls))), clock(), 0, 0.0
        while left:
            rounds += 1
            levels.append(_sample(reference, reference_loops, clock))
            for index in generator.permutation(left).tolist():
                sample_s = _sample(calls[index], loops[index], clock)
                levels.append(_sample(reference, reference_loops, clock))
                samples[index].append(sample_s / math.sqrt(levels[-2] * levels[-1]))
            spent = (clock() - began) * 1e-9 / config.budget_s
            last = rounds >= FEWEST_ROUNDS and (spent >= 1 or rounds >= config.max_rounds)
            if not last and (rounds < config.min_rounds or rounds % _LOOK_EVERY):
                continue
            level_s = float(np.median(levels))
            shares = 0.0
            for index in tuple(left):
                found = summarise(samples[index], level_s, config.target)
                if last or found.converged:
                    left.remove(index)
                    finished(index, found)
                else:  # widths fall with the root of the rounds; a share of a block's work is done
                    shares += min(1.0, (config.target / found.half_width) ** 2)
            done = max(done, len(calls) - len(left) + shares, min(spent, 1.0) * len(calls))
            progress(done, len(calls), "measuring")


def _sample(call: Call, loops: int, clock: Clock) -> float:
    call()  # untimed: caches still hold the block before, which would cost a share that falls with `loops`
    began = clock()
    for _ in repeat(None, loops):
        call()
    nanoseconds = clock() - began
    if nanoseconds <= 0:
        raise MeasurementError(
            f"the clock moved by {nanoseconds} ns over {loops} calls: expected more than 0. "
            "Check the host's clock, then run the same command again"
        )
    return nanoseconds * 1e-9 / loops


def _calibrate(call: Call, sample_s: float, clock: Clock) -> int:
    call()  # the first call pays for memory and lazy set-up
    loops = 1
    while True:
        seconds = _sample(call, loops, clock)
        if seconds * loops >= sample_s:
            # The fastest of four: a sample that was interrupted must not set the length of all others.
            seconds = min(seconds, *(_sample(call, loops, clock) for _ in range(3)))
        if seconds * loops >= sample_s:
            return max(1, round(sample_s / seconds))
        loops *= 2


def _warm_up(reference: Call, loops: int, longest_s: float, clock: Clock) -> None:
    began, before = clock(), math.inf
    while (clock() - began) * 1e-9 < longest_s:
        level = float(np.median([_sample(reference, loops, clock) for _ in range(_WINDOW)]))
        if abs(level / before - 1) <= 0.02:
            return
        before = level


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
