"""Roofline model of block latency: a sum of amounts of work times non-negative rates.

Williams et al., Roofline, CACM 52(4), 2009, with arithmetic and traffic added where the original takes
the larger; fitted to relative errors, because a block of 10 us matters as much as one of 10 ms.
"""

import numpy as np
from scipy.optimize import nnls

from jmsnas.arrays import BoolArray, FloatArray, IntArray
from jmsnas.estimators.regression.features import ROOFLINE, columns

# Error of a roofline itself, as a share: rows with more noise than this weigh less.
_MODEL_ERROR = 0.05
# Relative errors beyond this count linearly, not squared: outliers must not distort the rates.
_HUBER = 0.1
_HUBER_STEPS = 8
# Columns that share one rate where there are too few rows to fit a rate for each.
_MERGED = (
    ("expand_macs", "project_macs"),
    ("expand_bytes", "depthwise_bytes", "project_bytes", "elementwise_bytes", "addition_bytes"),
    ("convolutions", "depthwise_convolutions", "elementwise_operators", "additions"),
)
# From the simplest: no rate for overpadded kernels, one rate for them, a rate for each column.
ROOFLINE_KINDS = ("merged", "padded", "stages")


def fit_roofline(
    X: FloatArray, y: FloatArray, noise: FloatArray | None = None, kind: str = "stages"
) -> FloatArray:
    """Fit rates r >= 0 that minimise the relative errors, sum w h((work r - y) / y), h Huber's loss.

    Sources: Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23 (the solver); Huber,
    Robust Estimation of a Location Parameter, 1964 (the loss, by reweighting).

    Parameters
    ----------
    X, y
        Features of the rows, as `features` makes them, and positive seconds, (rows,).
    noise
        (rows,) relative standard deviation of y: w = 1 / (1 + (noise / 5 %)^2), where 5 % is the error of
        the roofline itself; None: equal weights.
    kind
        `stages`: a rate for each column; `padded`: one for the 1x1 convolutions of all stages, one for all
        bytes of activations, one for all launches; `merged`: `padded` without the rate of overpadded kernels.

    Returns
    -------
    (len(ROOFLINE) + 1,): seconds per unit of each column, then the constant in seconds.
    """
    work = np.column_stack([X[:, columns(ROOFLINE)], np.ones(len(X))])
    if kind == "merged":
        work[:, ROOFLINE.index("overpadded_macs")] = 0
    owner = _owners(kind)
    merged = np.zeros((len(work), owner.max() + 1))
    np.add.at(merged.T, owner, work.T)
    largest = merged.max(axis=0)
    # Columns span ten orders of magnitude (MACs, counts): scale them to suit the solver's tolerance.
    scale = np.where(largest > 0, largest, 1.0)
    relative = merged / scale / y[:, None]
    base_weights = np.ones(len(y)) if noise is None else 1 / np.hypot(1, noise / _MODEL_ERROR)
    weights = base_weights
    for _ in range(_HUBER_STEPS):
        rates, _ = nnls(relative * weights[:, None], weights, maxiter=100 * merged.shape[1])
        far = np.abs(relative @ rates - 1) / _HUBER
        if not (far > 1).any():
            break
        weights = base_weights / np.sqrt(np.maximum(far, 1))
    return np.asarray((rates / scale)[owner])


def roofline_s(X: FloatArray, rates: FloatArray) -> FloatArray:
    """Compute the seconds of each row by a fitted roofline, (rows,), >= 0."""
    return np.asarray(X[:, columns(ROOFLINE)] @ rates[:-1] + rates[-1])


def has_work(X: FloatArray) -> BoolArray:
    """Mark the rows with any work, (rows,): an identity block has none."""
    return np.asarray(X[:, columns(ROOFLINE)].any(axis=1))


def rows_to_score(X: FloatArray) -> BoolArray:
    """Mark the rows whose errors are scored, (rows,): those with work, or all rows where none has any.

    Blocks without work are predicted by a rule, not by a model.
    """
    working = has_work(X)
    return working if working.any() else ~working


def _owners(kind: str) -> IntArray:
    """Index of the rate of each column of `ROOFLINE`, then of the constant."""
    first = {name: names[0] for names in _MERGED for name in names} if kind != "stages" else {}
    names = [first.get(name, name) for name in (*ROOFLINE, "constant")]
    order = list(dict.fromkeys(names))
    return np.array([order.index(name) for name in names])
