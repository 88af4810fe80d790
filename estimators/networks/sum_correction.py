"""Correct the sum of block latencies to the latency of a part, fitted to measured whole models.

Blocks measured one by one pay for a call each, start with other caches than inside a part, and prevent
fusion across their borders: T = slope * sum + junction * (n - 1) for a part of n blocks with n - 1 junctions.
A constant in place of the junctions fits models of one depth as well, but not parts of them
(docs/estimators.md).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from jmsnas.arrays import FloatArray
from jmsnas.errors import EstimatorError
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.space import Block

# Seconds of one call of each block, (blocks,).
Predict = Callable[[Sequence[Block]], FloatArray]

# Fewer leave no error to estimate.
MIN_PARTS = 3


@dataclass(frozen=True, slots=True)
class SumCorrection:
    """Linear correction from sums of block latencies to latencies of parts.

    Attributes
    ----------
    slope, junction_s
        Whole = slope * sum of blocks + junction_s * (blocks - 1); slope > 0, and junction_s < 0 where it
        saves a call.
    parts
        Number of measured parts it was fitted to.
    gap
        Mean of sum / whole - 1 before the correction: above 0 where sums are too large.
    error
        Leave-one-out mean of |corrected / whole - 1|.
    """

    slope: float
    junction_s: float
    parts: int
    gap: float
    error: float

    def apply(self, sum_s: float, blocks: int) -> float:
        """Predict seconds of a part from the sum and number of its blocks; at least a tenth of the sum."""
        return max(self.slope * sum_s + self.junction_s * (blocks - 1), sum_s / 10)


def fit_sum_correction(
    sums_s: Sequence[float], blocks: Sequence[int], wholes_s: Sequence[float]
) -> SumCorrection:
    """Fit the correction to the sums of blocks, numbers of blocks and seconds of measured parts.

    By least squares of relative errors. Raises EstimatorError for fewer than 3 parts, or seconds that are not
    above 0.
    """
    x, y = np.asarray(sums_s, dtype=float), np.asarray(wholes_s, dtype=float)
    if not len(x) == len(y) == len(blocks) >= MIN_PARTS or not min(x.min(), y.min()) > 0:
        raise EstimatorError(
            f"got {len(x)} sums and {len(y)} whole parts: expected {MIN_PARTS} or more of each, "
            "above 0 s. Measure whole models with: jmsnas profile --parts 10"
        )
    work = np.stack([x, np.asarray(blocks, dtype=float) - 1], axis=1)
    slope, junction_s = _plane(work, y)
    others = [np.arange(len(x)) != n for n in range(len(x))]
    errors = [abs(work[n] @ _plane(work[keep], y[keep]) / y[n] - 1) for n, keep in enumerate(others)]
    return SumCorrection(
        float(slope), float(junction_s), len(x), float((x / y).mean() - 1), float(np.mean(errors))
    )


def table_correction(table: LatencyTable, predict_s: Predict | None = None) -> SumCorrection | None:
    """Fit the correction to a table of one key; None where there are fewer than 3 parts.

    `predict_s` predicts blocks that have no row; without it parts with such blocks are skipped.
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


def _plane(work: FloatArray, y: FloatArray) -> FloatArray:
    found = lsq_linear(work / y[:, None], np.ones(len(y)), ([1e-6, -np.inf], np.inf))
    return np.asarray(found.x)
