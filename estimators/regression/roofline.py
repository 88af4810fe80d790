"""A block's seconds as a sum of work times rates that cannot be negative: what extrapolates best.

Williams et al., Roofline, CACM 52(4), 2009, with arithmetic and traffic added where the original takes
the larger; relative errors, because a block of 10 us matters as much as one of 10 ms.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from jmsnas.estimators.regression.features import ROOFLINE, columns

Array = NDArray[np.float64]

_OWN_ERROR = 0.05
# Errors beyond this count by their size, not its square: what no sum of work explains is not to bend it.
_HUBER = 0.1
_HUBER_STEPS = 8
# Rates that differ by stage where there are rows to tell, and one for all where there are few.
_MERGED = (
    ("expand_macs", "project_macs"),
    ("expand_bytes", "depthwise_bytes", "project_bytes", "elementwise_bytes", "addition_bytes"),
    ("convolutions", "depthwise_convolutions", "elementwise_operators", "additions"),
)
# From the simplest on: no rate for overpadded kernels, one, a rate for each stage.
ROOFLINE_KINDS = ("merged", "padded", "stages")


def fit_roofline(X: Array, y: Array, noise: Array | None = None, kind: str = "stages") -> Array:
    """Fit rates r >= 0 that minimise the relative errors, sum w h((work r - y) / y), h Huber's loss.

    Sources: Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23 (the solver); Huber,
    Robust Estimation of a Location Parameter, 1964 (the loss, by reweighting).

    Parameters
    ----------
    X
        (rows, features) as `features` makes it.
    y
        (rows,) seconds, positive.
    noise
        (rows,) standard deviation of each, as a share of it: w = 1 / (1 + (noise / 5 %)^2), where 5 % stands
        for what a roofline itself is off; None: all rows count alike.
    kind
        `stages`: a rate for each column; `padded`: one for the 1x1 convolutions of all stages, one for all
        bytes of activations, one for all launches; `merged`: the same, and none for overpadded kernels.

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
    # Columns span ten orders of magnitude (MACs, counts): scaled, the solver's tolerance suits all.
    scale = np.where(largest > 0, largest, 1.0)
    relative = merged / scale / y[:, None]
    known = np.ones(len(y)) if noise is None else 1 / np.hypot(1, noise / _OWN_ERROR)
    say = known
    for _ in range(_HUBER_STEPS):
        rates, _ = nnls(relative * say[:, None], say, maxiter=100 * merged.shape[1])
        far = np.abs(relative @ rates - 1) / _HUBER
        if not (far > 1).any():
            break
        say = known / np.sqrt(np.maximum(far, 1))
    return np.asarray((rates / scale)[owner])


def roofline_s(X: Array, rates: Array) -> Array:
    """Sum work times rates: seconds, (rows,), >= 0."""
    return np.asarray(X[:, columns(ROOFLINE)] @ rates[:-1] + rates[-1])


def has_work(X: Array) -> NDArray[np.bool_]:
    """Say which rows do any work, (rows,): an Identity hands on what it got."""
    return np.asarray(X[:, columns(ROOFLINE)].any(axis=1))


def rows_to_score(X: Array) -> NDArray[np.bool_]:
    """Say which rows' errors count, (rows,): those that do work, as no model answers for the others.

    All of them where none does any.
    """
    busy = has_work(X)
    return busy if busy.any() else ~busy


def _owners(kind: str) -> NDArray[np.int64]:
    """Number of the rate that each column of `ROOFLINE`, then the constant, is paid at."""
    first = {name: names[0] for names in _MERGED for name in names} if kind != "stages" else {}
    names = [first.get(name, name) for name in (*ROOFLINE, "constant")]
    order = list(dict.fromkeys(names))
    return np.array([order.index(name) for name in names])
