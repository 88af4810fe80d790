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
from itertools import cycle, repeat

import numpy as np

from jmsnas.errors import InputError, MeasurementError
from jmsnas.profiler.table.measurement import MIN_ROUNDS, TARGET_HALF_WIDTH, Measurement, summarise
from jmsnas.progress import Progress, no_progress

Call = Callable[[], object]
Clock = Callable[[], int]
# What is measured: runs so many times in a row and gives the seconds that all of it took.
TimedLoop = Callable[[int], float]

# Looking seldom keeps the stopping rule from picking the moment at which the interval is luckily narrow.
_LOOK_EVERY = 5
_WINDOW = 25
# A round in which the process lost more of its core than this was disturbed; kernels take a percent or two.
_LOST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class TimingConfig:
    """How long to sample and when a block is done.

    Attributes
    ----------
    sample_s
        Length of one sample, seconds; a faster block is called several times in a row.
    target
        Half width of the ratio's 95 % interval, as a share of the ratio, at which a block is done.
    finest
        Where all blocks reached `target` before the time is spent, the widest go on, to a half of it, and
        again, down to this half width.
    min_rounds, max_rounds
        Fewest samples before a block may be done; most before it is handed out as it is.
    budget_s
        Seconds of sampling after which what is left is handed out as it is.
    warm_up_s
        Longest wait for a steady level, seconds; on a restless host none may come.
    """

    sample_s: float = 2e-4
    target: float = TARGET_HALF_WIDTH
    finest: float = TARGET_HALF_WIDTH
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


def wall_clock(call: Call, clock: Clock = time.perf_counter_ns) -> TimedLoop:
    """Time a call that is over when it returns."""

    def timed(loops: int) -> float:
        began = clock()
        for _ in repeat(None, loops):
            call()
        return (clock() - began) * 1e-9

    return timed


def measure(
    blocks: Sequence[TimedLoop],
    references: Sequence[TimedLoop],
    finished: Callable[[int, Measurement], None],
    config: TimingConfig,
    seed: int = 0,
    progress: Progress = no_progress,
    clock: Clock = time.perf_counter_ns,
    core_clock: Clock | None = None,
    starting: Callable[[int], None] = lambda index: None,
) -> None:
    """Time every block against the reference, and hand each out the moment it is done.

    Parameters
    ----------
    blocks, references
        The blocks, and copies of the reference block that take turns, a sample each; ready to run. Where a
        copy lies in memory makes it a percent faster or slower for as long as the process lives. For a block
        that is its noise floor; one reference alone would shift every ratio of the process alike.
    finished
        Called for each block with its index and measurement: when it reaches the target, again when it
        reaches a finer one, and at the time cap or the last round, with `converged=False` where the target
        was not reached. The last call of a block counts.
    config, seed
        When to stop; what the order within the rounds is drawn from.
    progress
        Called after every round with how many of the blocks' worth of sampling is done.
    clock
        Nanoseconds that never step back.
    core_clock
        Nanoseconds that this thread held a core; None where a core is not what works (CUDA).
    starting
        Called with a block's index before every sample of it, so that who watches knows what hangs.

    Raises
    ------
    MeasurementError
        When a block takes no time at all on its clock.
    """
    generator = np.random.default_rng(seed)
    with _no_garbage_collection():
        loops = []
        for index, block in enumerate(blocks):
            starting(index)
            loops.append(_calibrate(block, config.sample_s))
        reference, reference_loops = cycle(references), _calibrate(references[0], config.sample_s)
        _warm_up(references[0], reference_loops, config.warm_up_s, clock)
        host = _Host(clock, core_clock)
        samples: list[list[float]] = [[] for _ in blocks]
        widths, target = [math.inf] * len(blocks), config.target
        left, done = list(range(len(blocks))), 0.0
        while left:
            levels = [_sample(next(reference), reference_loops)]
            for index in generator.permutation(left).tolist():
                starting(index)
                sample_s = _sample(blocks[index], loops[index])
                levels.append(_sample(next(reference), reference_loops))
                samples[index].append(sample_s / math.sqrt(levels[-2] * levels[-1]))
            host.end_round(levels)
            spent = host.spent_s / config.budget_s
            last = host.rounds >= MIN_ROUNDS and (spent >= 1 or host.rounds >= config.max_rounds)
            if not last and (host.rounds < config.min_rounds or host.rounds % _LOOK_EVERY):
                continue
            shares = 0.0
            for index in tuple(left):
                found = summarise(samples[index], host.level_s, config.target, host.drift, host.interrupted)
                widths[index] = found.half_width
                if last or (found.half_width <= target and len(found.samples) >= MIN_ROUNDS):
                    left.remove(index)
                    finished(index, found)
                else:  # widths fall with the root of the rounds; a share of a block's work is done
                    shares += min(1.0, (target / found.half_width) ** 2)
            if not left and not last and target > config.finest:
                target = max(target / 2, config.finest)
                left = [index for index, width in enumerate(widths) if width > target]
            done = max(done, len(blocks) - len(left) + shares, min(spent, 1.0) * len(blocks))
            progress(done, len(blocks), "measuring")


class _Host:
    """How the host fared over the rounds so far."""

    def __init__(self, clock: Clock, core_clock: Clock | None) -> None:
        self.clock, self.core_clock = clock, core_clock
        self.began = self.mark = clock()
        self.core_mark = core_clock() if core_clock else 0
        self.rounds, self.disturbed = 0, 0
        self.levels: list[float] = []

    def end_round(self, levels: Sequence[float]) -> None:
        now, self.rounds = self.clock(), self.rounds + 1
        self.levels.append(float(np.median(levels)))
        if self.core_clock:
            core = self.core_clock()
            self.disturbed += core - self.core_mark < (1 - _LOST_SHARE) * (now - self.mark)
            self.core_mark = core
        self.mark = now

    @property
    def spent_s(self) -> float:
        return (self.mark - self.began) * 1e-9

    @property
    def level_s(self) -> float:
        return float(np.median(self.levels))

    @property
    def drift(self) -> float:
        low, high = np.quantile(self.levels, (0.05, 0.95))
        return float(high / low - 1)

    @property
    def interrupted(self) -> float:
        return self.disturbed / self.rounds


def _sample(timed: TimedLoop, loops: int) -> float:
    timed(
        1
    )  # not counted: caches still hold the block before, which would cost a share that falls with `loops`
    seconds = timed(loops)
    if seconds <= 0:
        raise MeasurementError(
            f"the clock moved by {seconds:g} s over {loops} calls: expected more than 0. "
            "Check the host's clock, then run the same command again"
        )
    return seconds / loops


def _calibrate(timed: TimedLoop, sample_s: float) -> int:
    timed(1)  # the first call pays for memory and lazy set-up
    loops = 1
    while True:
        seconds = _sample(timed, loops)
        if seconds * loops >= sample_s:
            # The fastest of four: a sample that was interrupted must not set the length of all others.
            seconds = min(seconds, *(_sample(timed, loops) for _ in range(3)))
        if seconds * loops >= sample_s:
            return max(1, round(sample_s / seconds))
        loops *= 2


def _warm_up(reference: TimedLoop, loops: int, longest_s: float, clock: Clock) -> None:
    began, before = clock(), math.inf
    while (clock() - began) * 1e-9 < longest_s:
        level = float(np.median([_sample(reference, loops) for _ in range(_WINDOW)]))
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
