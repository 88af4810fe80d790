"""Paired timing of blocks: each short sample lies between two of a reference block, so that drift cancels.

The speed of a shared host changes by half for milliseconds up to minutes, but the ratio of a block to a
reference timed right before and after it is stable. So the ratio is measured, in rounds over all blocks in
random order, and the reference's own latency in seconds is reported separately.
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
# Runs a block the given number of times in a row and returns the seconds of all runs together.
TimedLoop = Callable[[int], float]

# Checking the stopping rule rarely avoids stopping at a moment at which an interval is narrow by chance.
_CHECK_EVERY_ROUNDS = 5
_WARM_UP_SAMPLES = 25
# A round in which the process lost more of its core than this was interrupted; the kernel takes 1 or 2 %.
_LOST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class TimingConfig:
    """Stopping rule and sample length of a measurement.

    Attributes
    ----------
    sample_s
        Length of one sample, seconds; a faster block is run several times in a row.
    target
        Half width of the ratio's 95 % interval, as a share of the ratio, at which a block is finished.
    finest
        When all blocks have reached `target` before the budget is spent, those with the widest intervals
        continue to half of it, and again, down to this half width.
    min_rounds, max_rounds
        Least number of samples before a block may finish; number at which it is finished in any case.
    budget_s
        Seconds of sampling after which all blocks are finished.
    warm_up_s
        Longest wait for a steady reference latency, seconds; on a busy host it may never be steady.
    """

    sample_s: float = 2e-4
    target: float = TARGET_HALF_WIDTH
    finest: float = TARGET_HALF_WIDTH
    min_rounds: int = 30
    max_rounds: int = 2000
    budget_s: float = 30.0
    warm_up_s: float = 2.0

    def __post_init__(self) -> None:
        """Validate the limits."""
        if not (self.sample_s > 0 and self.target > 0 and self.budget_s > 0):
            raise InputError(
                f"cannot measure in samples of {self.sample_s} s to {self.target} of the ratio within "
                f"{self.budget_s} s: expected numbers above 0. Give a budget such as --budget 60s"
            )


@dataclass(frozen=True, slots=True)
class Clocks:
    """Clocks of a measurement, in nanoseconds.

    `wall` is monotonic; `core` is the time that this thread spent on a core, to detect interruptions, or None
    where the work is not done on a core (CUDA).
    """

    wall: Clock = time.perf_counter_ns
    core: Clock | None = None


def wall_clock(call: Call, clock: Clock = time.perf_counter_ns) -> TimedLoop:
    """Time a synchronous call with a monotonic clock."""

    def timed(loops: int) -> float:
        start = clock()
        for _ in repeat(None, loops):
            call()
        return (clock() - start) * 1e-9

    return timed


def measure(
    blocks: Sequence[TimedLoop],
    references: Sequence[TimedLoop],
    finished: Callable[[int, Measurement], None],
    config: TimingConfig,
    seed: int = 0,
    *,
    progress: Progress = no_progress,
    clocks: Clocks = Clocks(),  # noqa: B008 - frozen
) -> None:
    """Time every block against the reference block, and report each as soon as it is finished.

    Parameters
    ----------
    blocks, references
        The blocks, and copies of the reference block that are used in turn, one a sample. The memory
        addresses of a copy make it about 1 % faster or slower for the life of the process. For a block that
        is part of its noise floor; a single reference would shift all ratios of the process.
    finished
        Called with a block's index and measurement: when it reaches the target, again when it reaches a
        finer one, and at the end of the budget or the last round, with `converged=False` where the target
        was not reached. The last call of a block is its result.
    config, seed
        Stopping rule; seed of the block order within the rounds.
    progress
        Called when the stopping rule is checked, with the number of blocks done (a fraction counts partly).
    clocks
        Clocks of elapsed time and interruptions.

    Raises
    ------
    MeasurementError
        When a block takes no time on its clock.
    """
    with _no_garbage_collection():
        timing = _PairedTiming(blocks, references, config, clocks)
        generator = np.random.default_rng(seed)
        done = 0.0
        while timing.left:
            timing.sample_round(generator.permutation(timing.left).tolist())
            rounds, spent = timing.host.rounds, timing.host.elapsed_s / config.budget_s
            last = rounds >= MIN_ROUNDS and (spent >= 1 or rounds >= config.max_rounds)
            if not last and (rounds < config.min_rounds or rounds % _CHECK_EVERY_ROUNDS):
                continue
            shares = timing.finish_blocks(finished, last)
            done = max(done, len(blocks) - len(timing.left) + shares, min(spent, 1.0) * len(blocks))
            progress(done, len(blocks), "measuring")


class _PairedTiming:
    """State of a measurement between two rounds."""

    def __init__(
        self,
        blocks: Sequence[TimedLoop],
        references: Sequence[TimedLoop],
        config: TimingConfig,
        clocks: Clocks,
    ) -> None:
        self.blocks, self.config = blocks, config
        self.loops = [_calibrate(block, config.sample_s) for block in blocks]
        self.reference, self.reference_loops = (cycle(references), _calibrate(references[0], config.sample_s))
        _warm_up(references[0], self.reference_loops, config.warm_up_s, clocks.wall)
        self.host = _HostSpeed(clocks)
        self.samples: list[list[float]] = [[] for _ in blocks]
        self.half_widths, self.target = [math.inf] * len(blocks), config.target
        self.left = list(range(len(blocks)))

    def sample_round(self, order: Sequence[int]) -> None:
        """Take one sample of each block in `order`, each between two samples of the reference."""
        levels = [_sample(next(self.reference), self.reference_loops)]
        for index in order:
            sample_s = _sample(self.blocks[index], self.loops[index])
            levels.append(_sample(next(self.reference), self.reference_loops))
            self.samples[index].append(sample_s / math.sqrt(levels[-2] * levels[-1]))
        self.host.end_round(levels)

    def finish_blocks(self, finished: Callable[[int, Measurement], None], last: bool) -> float:
        """Report the blocks that reached the target, or all; return how many blocks' work the others did.

        When none is left and a finer target is wanted, the blocks with wider intervals go on to that.
        """
        shares, host = 0.0, self.host
        for index in tuple(self.left):
            found = summarise(
                self.samples[index], host.level_s, self.config.target, host.drift, host.interrupted
            )
            self.half_widths[index] = found.half_width
            if last or (found.half_width <= self.target and len(found.samples) >= MIN_ROUNDS):
                self.left.remove(index)
                finished(index, found)
            else:  # interval widths fall with the square root of the rounds
                shares += min(1.0, (self.target / found.half_width) ** 2)
        if not self.left and not last and self.target > self.config.finest:
            self.target = max(self.target / 2, self.config.finest)
            self.left = [index for index, width in enumerate(self.half_widths) if width > self.target]
        return shares


class _HostSpeed:
    """Speed and interruptions of the host over the rounds so far."""

    def __init__(self, clocks: Clocks) -> None:
        self.clocks = clocks
        self.start = self.mark = clocks.wall()
        self.core_mark = clocks.core() if clocks.core else 0
        self.rounds, self.interrupted_rounds = 0, 0
        self.levels: list[float] = []

    def end_round(self, levels: Sequence[float]) -> None:
        now, self.rounds = self.clocks.wall(), self.rounds + 1
        self.levels.append(float(np.median(levels)))
        if self.clocks.core:
            core = self.clocks.core()
            self.interrupted_rounds += core - self.core_mark < (1 - _LOST_SHARE) * (now - self.mark)
            self.core_mark = core
        self.mark = now

    @property
    def elapsed_s(self) -> float:
        return (self.mark - self.start) * 1e-9

    @property
    def level_s(self) -> float:
        return float(np.median(self.levels))

    @property
    def drift(self) -> float:
        low, high = np.quantile(self.levels, (0.05, 0.95))
        return float(high / low - 1)

    @property
    def interrupted(self) -> float:
        return self.interrupted_rounds / self.rounds


def _sample(timed: TimedLoop, loops: int) -> float:
    # Not counted: caches still hold the previous block, whose cost would depend on `loops`.
    timed(1)
    seconds = timed(loops)
    if seconds <= 0:
        raise MeasurementError(
            f"the clock moved by {seconds:g} s over {loops} calls: expected more than 0. "
            "Check the host's clock, then run the same command again"
        )
    return seconds / loops


def _calibrate(timed: TimedLoop, sample_s: float) -> int:
    """Return the number of runs in a row that take about `sample_s`."""
    timed(1)  # the first call allocates memory and initialises lazily
    loops = 1
    while True:
        seconds = _sample(timed, loops)
        if seconds * loops >= sample_s:
            # The fastest of four: an interrupted sample must not set the length of all others.
            seconds = min(seconds, *(_sample(timed, loops) for _ in range(3)))
        if seconds * loops >= sample_s:
            return max(1, round(sample_s / seconds))
        loops *= 2


def _warm_up(reference: TimedLoop, loops: int, max_s: float, clock: Clock) -> None:
    """Run the reference until its latency is steady within 2 %, or for `max_s` seconds."""
    start, before = clock(), math.inf
    while (clock() - start) * 1e-9 < max_s:
        level = float(np.median([_sample(reference, loops) for _ in range(_WARM_UP_SAMPLES)]))
        if abs(level / before - 1) <= 0.02:
            return
        before = level


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
