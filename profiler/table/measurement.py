"""Median latency ratio of a block to the reference block, with its 95 % confidence interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# The extremes of six samples contain the median with over 95 % probability: 1 - 2 * 0.5^6 = 0.969.
MIN_ROUNDS = 6
# Half width of a 95 % interval in standard deviations of a normal distribution.
Z_95 = 1.96
# Relative half width of a ratio's interval at which a row counts as converged.
TARGET_HALF_WIDTH = 0.01


@dataclass(frozen=True, slots=True)
class Measurement:
    """Latency of a block relative to the reference block, with its confidence interval.

    `ratio` is the median of `samples` (seconds of the block / seconds of the reference), `ratio_low` and
    `ratio_high` its 95 % interval, `reference_s` the median seconds of the reference so far in the run,
    `converged` whether the half width reached the target. `drift` is the reference's latency in its slowest
    over that in its fastest rounds (95th and 5th percentile), less 1; `interrupted` the share of the rounds
    so far in which another process held the core for more than a tenth of the time.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    reference_s: float
    converged: bool
    samples: tuple[float, ...]
    drift: float = 0.0
    interrupted: float = 0.0

    @property
    def half_width(self) -> float:
        """Half width of the 95 % interval, relative to the ratio."""
        return (self.ratio_high - self.ratio_low) / (2 * self.ratio)


@lru_cache(maxsize=4096)
def _lower_rank(count: int) -> int:
    # `term` is C(count, rank), computed from the previous one: fast for 10,000 samples too.
    tail, term, lower, total = 0, 1, 0, 2**count
    for rank in range(count // 2):
        tail += term
        # P(fewer than rank + 1 of `count` samples are below the median) <= 2.5 %, in integers.
        if 40 * tail > total:
            break
        lower, term = rank, term * (count - rank) // (rank + 1)
    return lower


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median and its distribution-free 95 % confidence interval, from order statistics (binomial).

    Fewer than six samples have no such interval: their minimum and maximum are returned.
    """
    ordered = np.sort(np.asarray(samples, dtype=float))
    rank = _lower_rank(len(ordered))
    return float(np.median(ordered)), float(ordered[rank]), float(ordered[-1 - rank])


def summarise(
    samples: Sequence[float], reference_s: float, target: float, drift: float = 0.0, interrupted: float = 0.0
) -> Measurement:
    """Summarise the latency ratios of a block to the reference as a `Measurement`."""
    ratio, low, high = median_interval(samples)
    converged = len(samples) >= MIN_ROUNDS and high - low <= 2 * target * ratio
    return Measurement(
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        reference_s=reference_s,
        converged=converged,
        samples=tuple(samples),
        drift=drift,
        interrupted=interrupted,
    )
