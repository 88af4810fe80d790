"""What another process finds: the table's noise floor, and intervals widened by it.

Memory lies elsewhere in a new process and the host is in another state, so the same block takes a slightly
other ratio there. An interval from inside one process knows nothing of that and is several times too narrow.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import median

import numpy as np
from scipy.stats import chi2, norm

from jmsnas.profiler.table.latency_table import AnyRow

# What the median and the 90th percentile of |gap| are of a normal law's standard deviation.
_MEDIAN_OF_NORMAL, _P90_OF_NORMAL = 0.6745, 1.6449
# A factor of 100 either way says that nothing is known.
_UNKNOWN = math.log(100)


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """How far the same block lies apart in two processes, over the rows that several processes measured.

    `rows` says how many those are, `median_gap` and `p90_gap` how far apart their ratios are, `spread` the
    half width within which 95 % of all blocks would be found again, with 90 % confidence: all in natural
    logarithms, that is in shares while they are small.
    """

    rows: int
    median_gap: float
    p90_gap: float
    spread: float


def process_ratios(row: AnyRow) -> tuple[float, ...]:
    """Median ratio of each process that measured the row, in the order of time."""
    ends = accumulate(row.process_rounds, initial=0)
    return tuple(median(row.samples[start:end]) for start, end in pairwise(ends))


def replicate_gap(row: AnyRow) -> float | None:
    """How far apart the first two processes found a row, |log(second / first)|; None where only one did."""
    found = process_ratios(row)
    return abs(math.log(found[1] / found[0])) if len(found) > 1 else None


def noise_floor(rows: Iterable[AnyRow]) -> NoiseFloor | None:
    """Noise floor of rows of one key and environment; None where no two processes measured one of them."""
    gaps = [gap for gap in map(replicate_gap, rows) if gap is not None]
    if not gaps:
        return None
    middle, high = (float(np.quantile(gaps, share)) for share in (0.5, 0.9))
    # The larger of two estimates: the median alone would not see the tail, the tail alone rests on few rows.
    sigma = max(middle / _MEDIAN_OF_NORMAL, high / _P90_OF_NORMAL)
    # A tolerance interval: a prediction interval (Student's t) holds 95 % on average over tables, and a table
    # whose few replicates happened to agree would be too sure of every row.
    doubt_of_sigma = math.sqrt(len(gaps) / float(chi2.ppf(0.1, len(gaps))))
    spread = min(float(norm.ppf(0.975)) * doubt_of_sigma * sigma, _UNKNOWN)
    return NoiseFloor(len(gaps), middle, high, spread)


def widened_interval(row: AnyRow, floor: NoiseFloor | None) -> tuple[float, float]:
    """Give (low, high) of the ratio: its interval within its processes, and what another would find."""
    spread = min(max(floor.spread if floor else 0.0, replicate_gap(row) or 0.0), _UNKNOWN)
    below, above = math.log(row.ratio / row.ratio_low), math.log(row.ratio_high / row.ratio)
    return row.ratio * math.exp(-math.hypot(below, spread)), row.ratio * math.exp(math.hypot(above, spread))
