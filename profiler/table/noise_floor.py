"""Noise floor of a latency table: variation between processes, and intervals widened by it.

A new process has another memory layout and meets the host in another state, so the same block has a slightly
different ratio there. An interval computed within one process ignores this and is several times too narrow.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import median

import numpy as np
from scipy.stats import chi2, norm

from jmsnas.profiler.table.latency_table import AnyRow

# Median and 90th percentile of |x| of a normal distribution, in standard deviations.
_MEDIAN_OF_NORMAL, _P90_OF_NORMAL = 0.6745, 1.6449
# Upper limit of the spread: a factor of 100 either way.
_UNKNOWN = math.log(100)


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Difference of a block's latency ratio between two processes, over rows measured in several processes.

    `rows` is the number of such rows, `median_gap` and `p90_gap` are quantiles of the differences of their
    ratios, `spread` is the half width that contains 95 % of repeated measurements, with 90 % confidence. All
    are differences of natural logarithms, which are relative differences where they are small.
    """

    rows: int
    median_gap: float
    p90_gap: float
    spread: float


def process_ratios(row: AnyRow) -> tuple[float, ...]:
    """Median ratio of each process that measured the row, in order of time."""
    ends = accumulate(row.process_rounds, initial=0)
    return tuple(median(row.samples[start:end]) for start, end in pairwise(ends))


def replicate_gap(row: AnyRow) -> float | None:
    """|log(second / first)| of the ratios of the first two processes; None for a row of one process."""
    ratios = process_ratios(row)
    return abs(math.log(ratios[1] / ratios[0])) if len(ratios) > 1 else None


def noise_floor(rows: Iterable[AnyRow]) -> NoiseFloor | None:
    """Noise floor of rows of one key and environment; None where no row was measured in two processes."""
    gaps = [gap for gap in map(replicate_gap, rows) if gap is not None]
    if not gaps:
        return None
    middle, high = (float(np.quantile(gaps, share)) for share in (0.5, 0.9))
    # The larger of two estimates: the median ignores the tail, and the tail is estimated from few rows.
    sigma = max(middle / _MEDIAN_OF_NORMAL, high / _P90_OF_NORMAL)
    # A tolerance interval: a prediction interval (Student's t) contains 95 % only on average over tables, so
    # that a table whose few replicates agree by chance would have too narrow an interval on every row.
    sigma_factor = math.sqrt(len(gaps) / float(chi2.ppf(0.1, len(gaps))))
    spread = min(float(norm.ppf(0.975)) * sigma_factor * sigma, _UNKNOWN)
    return NoiseFloor(len(gaps), middle, high, spread)


def widened_interval(row: AnyRow, floor: NoiseFloor | None) -> tuple[float, float]:
    """Confidence interval (low, high) of the ratio, widened by the variation between processes."""
    spread = min(max(floor.spread if floor else 0.0, replicate_gap(row) or 0.0), _UNKNOWN)
    below, above = math.log(row.ratio / row.ratio_low), math.log(row.ratio_high / row.ratio)
    return row.ratio * math.exp(-math.hypot(below, spread)), row.ratio * math.exp(math.hypot(above, spread))
