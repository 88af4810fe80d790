"""Conformal prediction intervals of block latency, by the distance of a block from the training rows.

Split conformal prediction (Vovk, Gammerman and Shafer, 2005) with Mondrian classes: intervals are narrowest
for a measured layer geometry, wider for a new geometry, widest for a new pair of channels. Outside the
training range an interval widens with every doubling.
"""

import math
from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.errors import EstimatorError
from jmsnas.estimators.regression.features import CHANNEL_PAIR, GEOMETRY, RESIDUAL, columns

LEVELS = ("known geometry", "new geometry", "new channels")
# Too few errors for a 90 % quantile below this: those of the next level are used.
_MIN_ERRORS = 20
# Widening of an interval (as a share of its logarithm) per doubling beyond the training range.
_WIDENING_PER_DOUBLING = 0.5
# Largest half-width: a factor of a million either way.
_MAX_HALF_WIDTH = 14.0
_HULL = tuple(name for name in RESIDUAL if name not in ("log_expansion", "log_aligned_width"))
_MACS = ("expand_macs", "depthwise_macs", "project_macs")


@dataclass(frozen=True, slots=True)
class TrainingRange:
    """Layer geometries, channel pairs and ranges of sizes in the training rows.

    Attributes
    ----------
    geometries, pairs
        Layer geometries and (in, out) channels.
    low, high
        Least and largest logarithm of each size and flag, (sizes,).
    least_work, most_work
        Least and largest logarithm of MACs, of blocks that have any.
    """

    geometries: frozenset[tuple[float, ...]]
    pairs: frozenset[tuple[float, ...]]
    low: FloatArray
    high: FloatArray
    least_work: float
    most_work: float

    def level(self, X: FloatArray) -> IntArray:
        """Return the index in `LEVELS` of each row, (rows,)."""
        found = np.full(len(X), 2)
        for n, row in enumerate(X[:, columns(GEOMETRY)].tolist()):
            if tuple(row) in self.geometries:
                found[n] = 0
            elif tuple(row[: len(CHANNEL_PAIR)]) in self.pairs:
                found[n] = 1
        return found

    def doublings(self, X: FloatArray) -> FloatArray:
        """Count the doublings or halvings of sizes from the training range to each row, (rows,).

        Or those of the MACs where these are more: few channels on few pixels, both in range, can be a smaller
        block than any in training.
        """
        sizes = X[:, columns(_HULL)]
        beyond = np.maximum(np.maximum(self.low - sizes, sizes - self.high), 0).sum(axis=1)
        work = _work(X)
        off = np.nan_to_num(np.maximum(self.least_work - work, work - self.most_work), neginf=0)
        return np.asarray(np.maximum(beyond, off) / math.log(2))

    def widening(self, X: FloatArray) -> FloatArray:
        """Compute the factor on an interval's logarithm, (rows,): 1 within the training range."""
        return 1 + _WIDENING_PER_DOUBLING * self.doublings(X)


def training_range(X: FloatArray) -> TrainingRange:
    """Compute the training range of a feature matrix."""
    geometries = frozenset(map(tuple, X[:, columns(GEOMETRY)].tolist()))
    pairs = frozenset(geometry[: len(CHANNEL_PAIR)] for geometry in geometries)
    sizes, work = X[:, columns(_HULL)], _work(X)
    any_work = work[~np.isnan(work)]
    least, most = (any_work.min(), any_work.max()) if len(any_work) else (-np.inf, np.inf)
    return TrainingRange(geometries, pairs, sizes.min(axis=0), sizes.max(axis=0), float(least), float(most))


def _work(X: FloatArray) -> FloatArray:
    """Compute the logarithm of MACs, (rows,), NaN where there are none."""
    macs = X[:, columns(_MACS)].sum(axis=1)
    return np.asarray(np.log(macs, out=np.full(len(X), np.nan), where=macs > 0))


def conformal_margins(errors: tuple[tuple[float, ...], ...], coverage: float) -> FloatArray:
    """Compute the conformal quantile of |log error| of each level, (levels,).

    The ceil((n + 1) coverage)-th smallest of n errors, or the largest where that exceeds n. A level with few
    errors uses those of the next; margins never decrease from one level to the next. `errors` are sorted, and
    not all levels empty. Raises EstimatorError when `coverage` is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise EstimatorError(f"coverage must be more than 0 and less than 1, as in 0.9, got {coverage}")
    pooled = tuple(sorted(error for level in errors for error in level))
    found: list[float] = []
    for n in range(len(errors)):
        own = next((level for level in errors[n:] if len(level) >= _MIN_ERRORS), pooled)
        rank = min(math.ceil((len(own) + 1) * coverage), len(own)) - 1
        found.append(max(own[rank], *found[-1:], 0.0))
    return np.array(found)


def half_widths(X: FloatArray, observed: TrainingRange, margins: FloatArray) -> FloatArray:
    """Compute the half-width of each row's interval in log seconds, (rows,)."""
    return np.minimum(margins[observed.level(X)] * observed.widening(X), _MAX_HALF_WIDTH)
