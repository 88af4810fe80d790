"""What it costs that EVERY way to give branches their children is slow: Hall's theorem as a bound.

B branches, K children. Some way is quick when each branch finds a child of its own on which it is quick.
There is none exactly when some a branches are quick on fewer than a children together: on no child but
x = a - 1 of them. So those a branches must be slow on all the other children, each of them.
"""

import itertools
import math

import numpy as np
from numpy.typing import NDArray

# Choices of children to leave out; a bound along single ways is used beyond.
_MOST_CHOICES = 64


def children_subsets(B: int, K: int) -> NDArray[np.bool_] | None:
    """Leave out x < B children in every way, (X, K); None where there are too many."""
    if sum(math.comb(K, x) for x in range(B)) > _MOST_CHOICES:
        return None
    without = [set(gone) for x in range(B) for gone in itertools.combinations(range(K), x)]
    return np.array([[k not in gone for k in range(K)] for gone in without])


def hall_bound(gain_BK: NDArray[np.float64], left_XK: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Bound the change of score (0 or less) that makes every way slow.

    Parameters
    ----------
    gain_BK
        What it changes the score, at best, to make branch b slow on child k, (..., B, K); 0 where it may not
        run there.
    left_XK
        From `children_subsets`.
    """
    gain_XB = np.where(left_XK[:, None, :], gain_BK[..., None, :, :], 0.0).min(axis=-1)
    total_XB = np.cumsum(-np.sort(-gain_XB, axis=-1), axis=-1)
    without_X = (~left_XK).sum(axis=1)
    best: NDArray[np.float64] = total_XB[..., np.arange(len(left_XK)), without_X].max(axis=-1)
    return best
