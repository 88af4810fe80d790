"""What samples of a block say: the median of its ratios to the reference, with an interval, and its doubt."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Six samples are the fewest whose extremes hold the median with 95 %: 1 - 2 * 0.5^6 = 0.969.
MIN_ROUNDS = 6
# Half width of a ratio's interval at which a row counts as converged.
TARGET_HALF_WIDTH = 0.01


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is known about a block, with its doubt.

    `ratio` is the median of `samples` (seconds of the block / seconds of the reference), `ratio_low` and
    `ratio_high` its 95 % interval, `reference_s` the reference's level in seconds so far in the run,
    `converged` whether the half width reached the target. `drift` is the reference's level in its slowest
    over that in its fastest rounds (95th and 5th percentile), less 1; `interrupted` the share of the rounds
    so far in which something else held the core for more than a tenth of the time.
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
        """Half width of the interval as a share of the ratio."""
        return (self.ratio_high - self.ratio_low) / (2 * self.ratio)


@lru_cache(maxsize=4096)
def _lower_rank(count: int) -> int:
    # `term` is C(count, rank), each made of the one before it: of 10,000 samples that takes no time either.
    tail, term, below, all_ways = 0, 1, 0, 2**count
    for rank in range(count // 2):
        tail += term
        # P(fewer than rank + 1 of `count` samples lie under the median) <= 2.5 %, in whole numbers.
        if 40 * tail > all_ways:
            break
        below, term = rank, term * (count - rank) // (rank + 1)
    return below


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median and its 95 % confidence interval by order statistics (binomial), with no law assumed.

    Fewer than six samples hold no such interval: then the extremes are given.
    """
    ordered = np.sort(np.asarray(samples, dtype=float))
    rank = _lower_rank(len(ordered))
    return float(np.median(ordered)), float(ordered[rank]), float(ordered[-1 - rank])


def summarise(
    samples: Sequence[float], reference_s: float, target: float, drift: float = 0.0, interrupted: float = 0.0
) -> Measurement:
    """Make the measurement of a block from its ratios to the reference, the level, and how the host fared."""
    ratio, low, high = median_interval(samples)
    converged = len(samples) >= MIN_ROUNDS and high - low <= 2 * target * ratio
    return Measurement(ratio, low, high, reference_s, converged, tuple(samples), drift, interrupted)
