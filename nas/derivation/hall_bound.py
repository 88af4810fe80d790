"""Bound on the score when every assignment of branches to children is slow, by Hall's theorem.

B branches, K children. Some assignment is fast when each branch finds a child of its own on which it is fast.
None is exactly when some a branches are fast on fewer than a children together, on x = a - 1 of them at most:
these a branches must be slow on each of the other children.
"""

import itertools
import math

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray

# Above this many subsets of children, single assignments are bounded instead.
_MAX_SUBSETS = 64


def children_subsets(B: int, K: int) -> BoolArray | None:
    """List the subsets that leave out x < B children, (X, K); None where there are too many."""
    if sum(math.comb(K, x) for x in range(B)) > _MAX_SUBSETS:
        return None
    without = [set(subset) for x in range(B) for subset in itertools.combinations(range(K), x)]
    return np.array([[k not in subset for k in range(K)] for subset in without])


def hall_bound(gain_BK: FloatArray, left_XK: BoolArray) -> FloatArray:
    """Bound the change of score (0 or less) that makes every assignment slow.

    `gain_BK`: best change of score that makes branch b slow on child k, (..., B, K); 0 where it may not run
    there. `left_XK`: from `children_subsets`.
    """
    gain_XB = np.where(left_XK[:, None, :], gain_BK[..., None, :, :], 0.0).min(axis=-1)
    total_XB = np.cumsum(-np.sort(-gain_XB, axis=-1), axis=-1)
    without_X = (~left_XK).sum(axis=1)
    best: FloatArray = total_XB[..., np.arange(len(left_XK)), without_X].max(axis=-1)
    return best
