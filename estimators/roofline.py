"""A block's seconds as a sum of work times rates that cannot be negative: what extrapolates best.

Williams et al., Roofline, CACM 52(4), 2009, with arithmetic and traffic added where the original takes
the larger; relative errors, because a block of 10 us matters as much as one of 10 ms.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from jmsnas.estimators.features import ROOFLINE, columns

Array = NDArray[np.float64]

_OWN_ERROR = 0.05


def fit_roofline(X: Array, y: Array, noise: Array | None = None) -> Array:
    """Fit rates r >= 0 that minimise the relative errors, sum w ((work r - y) / y)^2.

    Source of the solver: Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23.

    Parameters
    ----------
    X
        (rows, features) as `features` makes it.
    y
        (rows,) seconds, positive.
    noise
        (rows,) standard deviation of each, as a share of it: w = 1 / (1 + (noise / 5 %)^2), where 5 % stands
        for what a roofline itself is off; None: all rows count alike.

    Returns
    -------
    (len(ROOFLINE) + 1,): seconds per unit of each column, then the constant in seconds.
    """
    work = np.column_stack([X[:, columns(ROOFLINE)], np.ones(len(X))])
    largest = work.max(axis=0)
    # Columns span ten orders of magnitude (MACs, counts): scaled, the solver's tolerance suits all.
    scale = np.where(largest > 0, largest, 1.0)
    say = np.ones(len(y)) if noise is None else 1 / np.hypot(1, noise / _OWN_ERROR)
    rates, _ = nnls(work / scale * (say / y)[:, None], say, maxiter=100 * work.shape[1])
    return np.asarray(rates / scale)


def roofline_s(X: Array, rates: Array) -> Array:
    """Sum work times rates: seconds, (rows,), >= 0."""
    return np.asarray(X[:, columns(ROOFLINE)] @ rates[:-1] + rates[-1])
