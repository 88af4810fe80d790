"""From blocks to parts: the sum over blocks, corrected by whole networks that were measured.

Blocks one by one pay for a call each, start with other caches than within a part, and keep a run time from
fusing across their borders. So each of the n - 1 junctions of a part of n blocks is worth some seconds, and
all is off by a factor, which a few whole networks show: T = slope * sum + junction * (n - 1). A constant
instead fits networks of one depth as well, and parts of them not at all (docs/estimators.md).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from jmsnas.errors import EstimatorError
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.space import Block

Array = NDArray[np.float64]
# Seconds of one call of each block, (blocks,).
Predict = Callable[[Sequence[Block]], Array]

# A fit to fewer says nothing of its own error.
MIN_PARTS = 3


@dataclass(frozen=True, slots=True)
class SumCorrection:
    """The plane from sums of blocks to whole parts.

    Attributes
    ----------
    slope, junction_s
        Whole = slope * sum of blocks + junction_s * (blocks - 1); the slope is above 0, a junction below it
        where it saves a call.
    parts
        How many measured parts it rests on.
    gap
        Mean of sum / whole - 1 before the correction: above 0 where sums are too large.
    error
        Mean |corrected / whole - 1| of each part by a fit to the others.
    """

    slope: float
    junction_s: float
    parts: int
    gap: float
    error: float

    def apply(self, sum_s: float, blocks: int) -> float:
        """Seconds of a part whose blocks, so many, sum to `sum_s`; never less than a tenth of the sum."""
        return max(self.slope * sum_s + self.junction_s * (blocks - 1), sum_s / 10)


def fit_sum_correction(
    sums_s: Sequence[float], blocks: Sequence[int], wholes_s: Sequence[float]
) -> SumCorrection:
    """Fit by least squares of relative errors.

    Parameters
    ----------
    sums_s, blocks, wholes_s
        Of each measured part: the sum over its blocks in seconds, how many they are, its own seconds.

    Raises
    ------
    EstimatorError
        For fewer than 3 parts, or seconds that are not above 0.
    """
    x, y = np.asarray(sums_s, dtype=float), np.asarray(wholes_s, dtype=float)
    if not len(x) == len(y) == len(blocks) >= MIN_PARTS or not min(x.min(), y.min()) > 0:
        raise EstimatorError(
            f"got {len(x)} sums and {len(y)} whole parts: expected {MIN_PARTS} or more of each, "
            "above 0 s. Measure whole networks with: jmsnas profile --parts 10"
        )
    work = np.stack([x, np.asarray(blocks, dtype=float) - 1], axis=1)
    slope, junction_s = _plane(work, y)
    others = [np.arange(len(x)) != n for n in range(len(x))]
    errors = [abs(work[n] @ _plane(work[keep], y[keep]) / y[n] - 1) for n, keep in enumerate(others)]
    return SumCorrection(
        float(slope), float(junction_s), len(x), float((x / y).mean() - 1), float(np.mean(errors))
    )


def table_correction(table: LatencyTable, predict_s: Predict | None = None) -> SumCorrection | None:
    """Fit the correction of a table of one key; None where there are fewer than 3 parts.

    Parameters
    ----------
    predict_s
        Seconds of blocks that have no row; None: parts with such blocks do not count.
    """
    median_s = {row.block: row.median_s for row in table.rows}
    others = {block for row in table.parts for block in row.block.blocks} - {*median_s}
    if predict_s and others:
        blocks = sorted(others)
        median_s |= dict(zip(blocks, predict_s(blocks).tolist(), strict=True))
    known = [row for row in table.parts if all(block in median_s for block in row.block.blocks)]
    if len(known) < MIN_PARTS:
        return None
    sums_s = [math.fsum(median_s[block] for block in row.block.blocks) for row in known]
    return fit_sum_correction(
        sums_s, [len(row.block.blocks) for row in known], [row.median_s for row in known]
    )


def _plane(work: Array, y: Array) -> Array:
    found = lsq_linear(work / y[:, None], np.ones(len(y)), ([1e-6, -np.inf], np.inf))
    return np.asarray(found.x)
