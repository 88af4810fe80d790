"""Ways to divide rows into (seen, unseen), for choosing a model and for judging it.

Rows of one layer geometry are alike: a random split asks only for what lies between them, so a model is
chosen, and judged first of all, on whole geometries it never saw.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold

from jmsnas.estimators.regression.features import CHANNEL_PAIR, GEOMETRY, group_ids

Array = NDArray[np.float64]
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]

FOLDS = 5


def random_folds(rows: int, seed: int = 0, folds: int = FOLDS) -> list[Fold]:
    """Split rows blindly; at most `folds` splits, which together leave out each row once."""
    splitter = KFold(min(folds, rows), shuffle=True, random_state=seed)
    return [(seen, unseen) for seen, unseen in splitter.split(np.empty(rows))]


def group_folds(X: Array, names: Sequence[str] = GEOMETRY, seed: int = 0, folds: int = FOLDS) -> list[Fold]:
    """Split rows so that no layer geometry, or no value of other named columns, is on both sides.

    Returns
    -------
    At most `folds` splits, which together leave out each row once; none where all rows are of one group.
    """
    found = group_ids(X, names)
    count = int(found.max()) + 1 if len(found) else 0
    if count < 2:
        return []
    splitter = GroupKFold(min(folds, count), shuffle=True, random_state=seed)
    return [(seen, unseen) for seen, unseen in splitter.split(X, groups=found)]


def channel_folds(X: Array, seed: int = 0, folds: int = FOLDS) -> list[Fold]:
    """Split rows so that no pair of channels in and out is on both sides, as `group_folds`."""
    return group_folds(X, CHANNEL_PAIR, seed, folds)


def can_fit(X: Array, folds: Sequence[Fold]) -> bool:
    """Say whether there are folds, and the seen rows of each are of two layer geometries or more."""
    geometries = group_ids(X)
    return bool(folds) and all(len(set(geometries[seen].tolist())) > 1 for seen, _ in folds)


def few_row_folds(X: Array, few: int, times: int, seed: int = 0) -> list[Fold]:
    """Draw `few` rows to see, `times` times; the rest is unseen.

    None where that would leave less than a third of the rows; draws of a single layer geometry are left out.
    """
    if 3 * few > 2 * len(X):
        return []
    geometries = group_ids(X)
    orders = [np.random.default_rng((seed, n)).permutation(len(X)) for n in range(times)]
    return [(order[:few], order[few:]) for order in orders if len(set(geometries[order[:few]])) > 1]
