"""U(.): seconds of a block from its features, always positive, with an interval.

A roofline (non-negative rates, fitted to relative errors) times the exponential of one residual model,
a Gaussian process on the logarithm of the ratio, kept only where cross-validation over whole layer
geometries shows that it helps. Gaussian process: Rasmussen and Williams, 2006, chapters 2 and 5.
Interval: split conformal prediction over out-of-fold errors (Vovk, Gammerman and Shafer, 2005).
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from jmsnas.errors import EstimatorError
from jmsnas.estimators.features import FEATURES, RESIDUAL, columns, geometry_groups
from jmsnas.estimators.roofline import fit_roofline, roofline_s

Array = NDArray[np.float64]
Split = tuple[NDArray[np.int64], NDArray[np.int64]]

FOLDS = 5
# Below this a residual model has less to learn from than it has length scales to learn.
MIN_RESIDUAL_ROWS = 20
# A second model must earn its keep: a gain of a tenth of a percent of latency.
_MIN_GAIN = 1e-3
# Length scales are searched on a random part of a large table (the cost is cubic), then all rows are used.
_MAX_SEARCH_ROWS = 256
_MAX_SEARCH_STEPS = 50
# scikit-learn's own default: keeps the covariance invertible.
_JITTER = 1e-10


@dataclass(frozen=True, slots=True)
class Choice:
    """What cross-validation chose, so that a refit on the same rows needs no search.

    Attributes
    ----------
    residual
        Whether the residual model is kept.
    theta
        Logarithms of the kernel's hyper-parameters (scikit-learn's order); empty without residual.
    log_errors
        Sorted |log(measured / predicted)| of rows whose geometry the predicting model had not seen.
    mape_roofline, mape_residual
        Mean absolute relative error of the two on geometries they had not seen; `mape_residual` is None
        where no residual model was tried.
    """

    residual: bool
    theta: tuple[float, ...]
    log_errors: tuple[float, ...]
    mape_roofline: float
    mape_residual: float | None


class LatencyRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Latency of blocks in the manner of scikit-learn: `fit(X, y)`, `predict(X)`.

    Parameters
    ----------
    seed
        Draws the rows on which a large table's length scales are searched.

    Attributes
    ----------
    choice_
        The `Choice` that was made.
    rates_
        Seconds per unit of each column of `ROOFLINE`, then the constant in seconds; all >= 0.
    floor_s_
        No roofline answers less: a tenth of the fastest row, for blocks that do no work.
    process_
        The Gaussian process over standardised `RESIDUAL` columns, or None.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, X: Array, y: Array, noise: Array | None = None) -> "LatencyRegressor":
        """Choose by cross-validation over layer geometries, then fit on all rows.

        Parameters
        ----------
        X
            (rows, features) as `features` makes it.
        y
            (rows,) seconds, positive.
        noise
            (rows,) standard deviation of each, as a share of it; None: all are exact.

        Raises
        ------
        EstimatorError
            When the rows are of fewer than two layer geometries, or `y` is not positive and finite.
        """
        _check(X, y)
        geometries = len(set(geometry_groups(X)))
        if geometries < 2:
            raise EstimatorError(
                f"got {len(y)} rows of {geometries} layer geometry: expected 2 geometries or more, "
                "since a fit is judged on geometries it never saw. Profile more blocks"
            )
        # Matrices are small: a second BLAS thread only makes the first one wait, twenty times slower.
        with threadpool_limits(1, user_api="blas"):
            return self.refit(X, y, _choose(X, y, self.seed, noise), noise)

    def refit(self, X: Array, y: Array, choice: Choice, noise: Array | None = None) -> "LatencyRegressor":
        """Fit on all rows with a choice already made, without any search. Raises EstimatorError."""
        _check(X, y)
        self.choice_ = choice
        self.rates_ = fit_roofline(X, y, noise)
        self.floor_s_ = float(y.min()) / 10
        self.process_: GaussianProcessRegressor | None = None
        if choice.residual:
            inputs = X[:, columns(RESIDUAL)]
            spread = inputs.std(axis=0)
            self.mean_, self.scale_ = inputs.mean(axis=0), np.where(spread > 0, spread, 1.0)
            logs = np.log(y / self._roofline_s(X))
            self.unit_ = float(logs.std()) or 1.0
            self.bounds_ = (float(logs.min()), float(logs.max()))
            variance = np.zeros(len(y)) if noise is None else (noise / self.unit_) ** 2
            try:
                self.process_ = _process(
                    self._standardised(X), logs / self.unit_, variance, choice.theta, self.seed
                )
            except ValueError as error:
                raise EstimatorError(
                    f"the residual model cannot be fitted again: {error}. Run: jmsnas fit-estimator"
                ) from error
        return self

    def predict(self, X: Array) -> Array:
        """Predict seconds, positive and finite, (rows,)."""
        roofline_s = self._roofline_s(X)
        if self.process_ is None or not len(X):
            return roofline_s
        # A correction beyond every one that was seen would be extrapolation.
        correction = np.clip(self.process_.predict(self._standardised(X)) * self.unit_, *self.bounds_)
        return np.asarray(roofline_s * np.exp(correction))

    def margin(self, coverage: float = 0.9) -> float:
        """Give the |log error| that a share `coverage` of rows of unseen geometries stays within.

        The ceil((n + 1) coverage)-th smallest of n; the largest where n rows cannot promise that much.
        Raises EstimatorError when `coverage` is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise EstimatorError(f"coverage must be more than 0 and less than 1, as in 0.9, got {coverage}")
        errors = self.choice_.log_errors
        return errors[min(math.ceil((len(errors) + 1) * coverage), len(errors)) - 1]

    def predict_interval(self, X: Array, coverage: float = 0.9) -> tuple[Array, Array]:
        """Give (low, high) in seconds, each (rows,): the prediction over and times exp(margin)."""
        predicted_s, factor = self.predict(X), math.exp(self.margin(coverage))
        return predicted_s / factor, predicted_s * factor

    @property
    def name(self) -> str:
        """Which model was chosen, for people."""
        return "roofline + residual" if self.process_ is not None else "roofline"

    def _roofline_s(self, X: Array) -> Array:
        return np.maximum(roofline_s(X, self.rates_), self.floor_s_)

    def _standardised(self, X: Array) -> Array:
        return np.asarray((X[:, columns(RESIDUAL)] - self.mean_) / self.scale_)


def geometry_folds(X: Array, folds: int = FOLDS) -> list[Split]:
    """Split rows into (seen, unseen), no layer geometry on both sides; at most `folds` splits."""
    groups = geometry_groups(X)
    splitter = GroupKFold(min(folds, int(groups.max()) + 1))
    return [(seen, unseen) for seen, unseen in splitter.split(X, groups=groups)]


def _check(X: Array, y: Array) -> None:
    if X.ndim != 2 or X.shape[1] != len(FEATURES) or y.shape != X.shape[:1] or not len(y):
        raise EstimatorError(
            f"got features of shape {X.shape} for latencies of shape {y.shape}: "
            f"expected (rows, {len(FEATURES)}) as features(blocks) makes them, and (rows,)"
        )
    if not (np.isfinite(y).all() and (y > 0).all()):
        raise EstimatorError("got a latency that is not positive and finite: check the table's rows")


def _choose(X: Array, y: Array, seed: int, noise: Array | None) -> Choice:
    bare = Choice(False, (), (), 0.0, None)
    errors, mape = _out_of_fold(X, y, bare, seed, noise)
    # Where less is left than a residual model must gain there is nothing to try.
    if len(y) < MIN_RESIDUAL_ROWS or mape <= _MIN_GAIN:
        return replace(bare, log_errors=errors, mape_roofline=mape)
    searched = replace(bare, residual=True)
    errors_residual, mape_residual = _out_of_fold(X, y, searched, seed, noise)
    if mape_residual > mape - _MIN_GAIN:
        return Choice(False, (), errors, mape, mape_residual)
    found: Any = LatencyRegressor(seed).refit(X, y, searched, noise).process_
    theta = tuple(float(number) for number in found.kernel_.theta)
    return Choice(True, theta, errors_residual, mape, mape_residual)


def _out_of_fold(
    X: Array, y: Array, choice: Choice, seed: int, noise: Array | None
) -> tuple[tuple[float, ...], float]:
    predicted_s = np.empty(len(y))
    for seen, unseen in geometry_folds(X):
        seen_noise = None if noise is None else noise[seen]
        regressor = LatencyRegressor(seed).refit(X[seen], y[seen], choice, seen_noise)
        predicted_s[unseen] = regressor.predict(X[unseen])
    errors = np.sort(np.abs(np.log(y / predicted_s)))
    return tuple(float(error) for error in errors), float(np.abs(predicted_s / y - 1).mean())


def _process(
    Z: Array, z: Array, variance: Array, theta: tuple[float, ...], seed: int
) -> GaussianProcessRegressor:
    """Fit a Matern-5/2 process with a length scale an input and white noise; `theta` empty: search it.

    `variance` is what is known of each row's own noise, on top of the white noise that all share.
    """
    known = variance + _JITTER
    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(np.full(Z.shape[1], 5.0), (0.3, 1e3), nu=2.5)
    kernel += WhiteKernel(0.1, (1e-6, 10.0))
    with warnings.catch_warnings():
        # An input that does not matter drives its length scale to the bound: an answer, not a defect.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if theta:
            kernel = kernel.clone_with_theta(np.array(theta))
        else:
            some = np.random.default_rng(seed).permutation(len(Z))[:_MAX_SEARCH_ROWS]
            kernel = (
                GaussianProcessRegressor(kernel, alpha=known[some], optimizer=_search)
                .fit(Z[some], z[some])
                .kernel_
            )
        return GaussianProcessRegressor(kernel, alpha=known, optimizer=None).fit(Z, z)


def _search(
    objective: Callable[..., tuple[float, Array]], start: Array, bounds: Array
) -> tuple[Array, float]:
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _MAX_SEARCH_STEPS}
    )
    return found.x, float(found.fun)
