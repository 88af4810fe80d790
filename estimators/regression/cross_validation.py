"""Train/test folds of latency rows: at random, by layer geometry, by channel pair, or a few rows of many.

Rows of one layer geometry are correlated: random folds test interpolation only, so models are selected, and
primarily evaluated, on whole geometries that are not in the training set.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import GroupKFold, KFold

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.estimators.regression.features import CHANNEL_PAIR, GEOMETRY, group_ids

# Row indices of the training and of the test set.
Fold = tuple[IntArray, IntArray]

FOLDS = 5


def random_folds(rows: int, seed: int = 0, folds: int = FOLDS) -> list[Fold]:
    """Make at most `folds` random folds; each row is in one test set."""
    splitter = KFold(min(folds, rows), shuffle=True, random_state=seed)
    return [(train, test) for train, test in splitter.split(np.empty(rows))]


def group_folds(
    X: FloatArray, names: Sequence[str] = GEOMETRY, seed: int = 0, folds: int = FOLDS
) -> list[Fold]:
    """Make at most `folds` folds so that no layer geometry is in both the training and the test set.

    Groups are the values of the columns `names`. Each row is in one test set; a single group gives no folds.
    """
    found = group_ids(X, names)
    count = int(found.max()) + 1 if len(found) else 0
    if count < 2:
        return []
    splitter = GroupKFold(min(folds, count), shuffle=True, random_state=seed)
    return [(train, test) for train, test in splitter.split(X, groups=found)]


def channel_folds(X: FloatArray, seed: int = 0, folds: int = FOLDS) -> list[Fold]:
    """Make folds as `group_folds`, by pairs of input and output channels."""
    return group_folds(X, CHANNEL_PAIR, seed, folds)


def can_fit(X: FloatArray, folds: Sequence[Fold]) -> bool:
    """Whether there are folds, and each training set has two layer geometries or more."""
    geometries = group_ids(X)
    return bool(folds) and all(len(set(geometries[train].tolist())) > 1 for train, _ in folds)


def clustered_mean(values: FloatArray, geometries: IntArray) -> tuple[float, float]:
    """Compute the mean of values and its standard error, with correlated values within a layer geometry."""
    # Only sums over a geometry are independent.
    sums = np.bincount(geometries, values - values.mean())
    return float(values.mean()), float(np.sqrt((sums**2).sum())) / len(values)


def few_row_folds(X: FloatArray, few: int, times: int, seed: int = 0) -> list[Fold]:
    """Make `times` folds with `few` random training rows each; all other rows are the test set.

    None where the test set would be less than a third of the rows; draws of one layer geometry are skipped.
    """
    if 3 * few > 2 * len(X):
        return []
    geometries = group_ids(X)
    orders = [np.random.default_rng((seed, n)).permutation(len(X)) for n in range(times)]
    return [(order[:few], order[few:]) for order in orders if len(set(geometries[order[:few]])) > 1]
