"""How far off a prediction may be: by how near to the table the block is, learned from rows held out.

Split conformal prediction (Vovk, Gammerman and Shafer, 2005), class by class (Mondrian): a block whose
layer geometry was measured is surer than one whose geometry is new, and that one than a block of channels
that were never seen together. Outside the table's range an interval widens with every doubling.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import EstimatorError
from jmsnas.estimators.regression.features import CHANNEL_PAIR, GEOMETRY, RESIDUAL, columns

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

LEVELS = ("known geometry", "new geometry", "new channels")
# Fewer errors than these say little about one in ten: then those of the next level are taken.
_FEWEST = 20
# How much an interval widens (as a share of its logarithm) with each doubling beyond the table.
_A_DOUBLING = 0.5
# A factor of a million either way: nothing wider says more.
_WIDEST = 14.0
_HULL = tuple(name for name in RESIDUAL if name not in ("log_expansion", "log_aligned_width"))
_MACS = ("expand_macs", "depthwise_macs", "project_macs")


@dataclass(frozen=True, slots=True)
class TrainingRange:
    """What a table holds: geometries, pairs of channels, and the range of each size.

    Attributes
    ----------
    geometries, pairs
        Layer geometries and (in, out) channels.
    low, high
        Least and largest logarithm of each size, flags among them.
    least_work, most_work
        Least and largest logarithm of MACs, of blocks that have any.
    """

    geometries: frozenset[tuple[float, ...]]
    pairs: frozenset[tuple[float, ...]]
    low: Array
    high: Array
    least_work: float
    most_work: float

    def level(self, X: Array) -> NDArray[np.int64]:
        """Which of `LEVELS` each row is, (rows,)."""
        found = np.full(len(X), 2)
        for n, row in enumerate(X[:, columns(GEOMETRY)].tolist()):
            if tuple(row) in self.geometries:
                found[n] = 0
            elif tuple(row[: len(CHANNEL_PAIR)]) in self.pairs:
                found[n] = 1
        return found

    def doublings(self, X: Array) -> Array:
        """How often a size must double, or halve, from the table's range to the row's, (rows,).

        Or the work where that is further off: few channels on few pixels, each of them in range, make a block
        that is smaller than any.
        """
        sizes = X[:, columns(_HULL)]
        beyond = np.maximum(np.maximum(self.low - sizes, sizes - self.high), 0).sum(axis=1)
        work = _work(X)
        off = np.nan_to_num(np.maximum(self.least_work - work, work - self.most_work), neginf=0)
        return np.asarray(np.maximum(beyond, off) / math.log(2))

    def widening(self, X: Array) -> Array:
        """What an interval's logarithm is multiplied by, (rows,): 1 within the table's range."""
        return 1 + _A_DOUBLING * self.doublings(X)


def training_range(X: Array) -> TrainingRange:
    """Note what a table holds."""
    geometries = frozenset(map(tuple, X[:, columns(GEOMETRY)].tolist()))
    pairs = frozenset(geometry[: len(CHANNEL_PAIR)] for geometry in geometries)
    sizes, work = X[:, columns(_HULL)], _work(X)
    any_work = work[~np.isnan(work)]
    least, most = (any_work.min(), any_work.max()) if len(any_work) else (-np.inf, np.inf)
    return TrainingRange(geometries, pairs, sizes.min(axis=0), sizes.max(axis=0), float(least), float(most))


def _work(X: Array) -> Array:
    """Logarithm of MACs, (rows,), NaN where there are none."""
    macs = X[:, columns(_MACS)].sum(axis=1)
    return np.asarray(np.log(macs, out=np.full(len(X), np.nan), where=macs > 0))


def conformal_margins(errors: tuple[tuple[float, ...], ...], coverage: float) -> Array:
    """Give the |log error| that a share `coverage` of rows of each level stays within, (levels,).

    The ceil((n + 1) coverage)-th smallest of n; the largest where n rows cannot promise that much. A level
    of few errors takes those of the next; none is surer than the level before it.

    Parameters
    ----------
    errors
        Sorted |log errors| of each level, at least one of them not empty.

    Raises
    ------
    EstimatorError
        When `coverage` is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise EstimatorError(f"coverage must be more than 0 and less than 1, as in 0.9, got {coverage}")
    pooled = tuple(sorted(error for level in errors for error in level))
    found: list[float] = []
    for n in range(len(errors)):
        own = next((level for level in errors[n:] if len(level) >= _FEWEST), pooled)
        rank = min(math.ceil((len(own) + 1) * coverage), len(own)) - 1
        found.append(max(own[rank], *found[-1:], 0.0))
    return np.array(found)


def half_widths(X: Array, seen: TrainingRange, margins: Array) -> Array:
    """Give the logarithm of the factor that each row's interval reaches either way, (rows,)."""
    return np.minimum(margins[seen.level(X)] * seen.widening(X), _WIDEST)
