"""From blocks to networks: the sum over blocks, corrected by whole networks that were measured.

Blocks one by one pay for a call each and start with cold caches, or with warmer ones than in the network; so
their sum is off by a factor and an offset, which a few whole networks show: T = offset + slope * sum.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from jmsnas.errors import EstimatorError
from jmsnas.profiler.table import LatencyTable
from jmsnas.space import Block

# Seconds of one call of each block, (blocks,).
Predict = Callable[[Sequence[Block]], NDArray[np.float64]]

# A line through fewer says nothing of its own error.
FEWEST_PARTS = 3


@dataclass(frozen=True, slots=True)
class Correction:
    """The line from sums of blocks to whole parts.

    Attributes
    ----------
    offset_s, slope
        Whole = offset_s + slope * sum of blocks; the slope is above 0.
    parts
        How many measured parts it rests on.
    gap
        Mean of sum / whole - 1 before the correction: above 0 where sums are too large.
    error
        Mean |corrected / whole - 1| of each part by the line through the others.
    """

    offset_s: float
    slope: float
    parts: int
    gap: float
    error: float

    def apply(self, sum_s: float) -> float:
        """Seconds of a part whose blocks sum to `sum_s`; never less than a tenth of the sum."""
        return max(self.offset_s + self.slope * sum_s, sum_s / 10)


def fit_correction(sums_s: Sequence[float], wholes_s: Sequence[float]) -> Correction:
    """Fit the line by least squares of relative errors.

    Raises
    ------
    EstimatorError
        For fewer than 3 parts, or seconds that are not above 0.
    """
    x, y = np.asarray(sums_s, dtype=float), np.asarray(wholes_s, dtype=float)
    if len(x) != len(y) or len(x) < FEWEST_PARTS or not (x > 0).all() or not (y > 0).all():
        raise EstimatorError(
            f"got {len(x)} sums and {len(y)} whole parts: expected {FEWEST_PARTS} or more of each, "
            "above 0 s. Measure whole networks with: jmsnas profile --parts 10"
        )
    offset_s, slope = _line(x, y)
    others = [np.arange(len(x)) != n for n in range(len(x))]
    left_out = [_line(x[keep], y[keep]) for keep in others]
    errors = [abs((a + b * x[n]) / y[n] - 1) for n, (a, b) in enumerate(left_out)]
    return Correction(offset_s, slope, len(x), float((x / y).mean() - 1), float(np.mean(errors)))


def table_correction(table: LatencyTable, predict_s: Predict | None = None) -> Correction | None:
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
    if len(known) < FEWEST_PARTS:
        return None
    sums_s = [math.fsum(median_s[block] for block in row.block.blocks) for row in known]
    return fit_correction(sums_s, [row.median_s for row in known])


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    found = lsq_linear(np.stack([1 / y, x / y], axis=1), np.ones(len(y)), ([-np.inf, 1e-6], np.inf))
    return float(found.x[0]), float(found.x[1])
