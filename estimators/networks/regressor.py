"""Latency regressor of whole models (networks), fitted to a few models measured end to end.

T = offset + sum of the blocks' seconds + bend. A block's seconds are rates times its work, plus a deviation
shared with similar choices at its layer, plus one of its own; the bend is a Gaussian process over the total
work of the network. All terms have zero-mean priors, whose scales maximise the marginal likelihood of the
measured networks times a prior over the scales: terms that the data do not support stay at zero. Rasmussen
and Williams, Gaussian Processes for Machine Learning, 2006, chapters 2 and 5.
"""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics.pairwise import rbf_kernel
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from jmsnas.arrays import FloatArray
from jmsnas.errors import EstimatorError
from jmsnas.estimators.networks.block_kinds import BlockKinds

MIN_NETWORKS = 3
# Terms with zero-mean priors, the measurement noise last; scales are standard deviations, as shares of a mean
# network, or of a mean block for the two deviations (choices, kinds).
SCALES = ("offset", "work", "choices", "kinds", "bend", "noise")
_LIKELY = np.log([0.1, 0.3, 0.1, 0.1, 0.02, 0.04])
# Standard deviations of the log-normal prior over the scales, whose medians are _LIKELY.
_SPREAD = np.array([0.5, 0.7, 0.7, 0.7, 1.0, 1.0])
_BOUNDS = (-9.0, 3.0)
# exp(-gamma d^2) of standardised inputs: length scale 2 of the choices, about 3 of the amounts of work.
_GAMMA_CHOICES, _GAMMA_BEND = 0.125, 0.05
# Residuals of more standard deviations weigh less: Huber's constant (Ann. Math. Statist. 35(1), 1964), 95 %
# efficient for normal noise. Interference makes runs slower, never faster.
_HUBER = 1.345
_HUBER_PASSES = 2
# Residuals, as a share, are clipped to this in the mean that corrects the bias of the robust fit.
_MAX_RESIDUAL = 0.25
# Scales are searched on a random part of many networks (the cost is cubic), then all networks are used.
_MAX_SEARCH_NETWORKS = 256
_MAX_SEARCH_STEPS = 50
# Keeps the covariance invertible where networks repeat; far below any noise.
_JITTER = 1e-9


class NetworkRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Regressor of network latency with the scikit-learn API: `fit(X, y)`, `predict(X)`.

    Parameters
    ----------
    kinds
        The kinds of block of all networks, those to predict included.
    seed
        Seed of the sample of networks on which the scales are searched, where there are more than 256.

    Attributes
    ----------
    scales_
        Fitted value of each of `SCALES`.
    offset_s_, block_s_
        Seconds of a network without blocks; seconds of each kind inside a network, (kinds,). A kind in no
        measured network has the seconds predicted from its work and from similar kinds.
    """

    def __init__(self, kinds: BlockKinds, seed: int = 0) -> None:
        self.kinds = kinds
        self.seed = seed

    def fit(self, X: FloatArray, y: FloatArray) -> "NetworkRegressor":
        """Fit to numbers of blocks of each kind, (networks, kinds), and measured seconds, (networks,).

        Raises EstimatorError for shapes that do not fit, negative counts, fewer than 3 networks, or latencies
        that are not positive and finite.
        """
        self._check(X)
        if y.shape != X.shape[:1] or len(y) < MIN_NETWORKS:
            raise EstimatorError(
                f"got {len(X)} networks and latencies of shape {y.shape}: expected one latency a network and "
                f"{MIN_NETWORKS} networks or more. Measure more with: jmsnas profile --parts 10"
            )
        if not (np.isfinite(y).all() and (y > 0).all()):
            raise EstimatorError("got a network's latency that is not positive and finite: measure it again")
        # Matrices are small: a second BLAS thread slows the fit down.
        with threadpool_limits(1, user_api="blas"):
            self._fit(X, y)
        return self

    def predict(self, X: FloatArray) -> FloatArray:
        """Predict positive seconds, (networks,), from counts as in `fit`; raises EstimatorError."""
        self._check(X)
        seconds = self.offset_s_ + X @ self.block_s_
        if len(X):
            seconds += rbf_kernel(self._amounts(X), self.train_amounts_, gamma=_GAMMA_BEND) @ self.bend_s_
        # Far from the measured networks a sum of deviations may become too small or negative.
        return np.asarray(np.maximum(seconds, self.floor_s_))

    def _check(self, X: FloatArray) -> None:
        if X.ndim != 2 or X.shape[1] != len(self.kinds.layer):
            raise EstimatorError(
                f"got counts of shape {X.shape}: expected (networks, {len(self.kinds.layer)}), a column for "
                "each kind of block"
            )
        if not (np.isfinite(X).all() and (X >= 0).all()):
            raise EstimatorError("got a network that holds a negative or unknown number of some block")

    def _fit(self, X: FloatArray, y: FloatArray) -> None:
        totals = X @ self.kinds.work
        self.center_, spread = totals.mean(axis=0), totals.std(axis=0)
        # An amount that is equal in all networks, up to rounding, carries no information.
        self.spread_ = np.where(spread > 1e-9 * self.center_, spread, np.inf)
        self.train_amounts_ = self._amounts(X)
        rates = self.kinds.work / np.where(self.center_ > 0, self.center_, np.inf)
        share = 1 / max(float(X.sum(axis=1).mean()), 1.0)
        # Covariances of the kinds' seconds with the networks', (kinds, networks): work, choices, kinds.
        reach = [rates @ (rates.T @ X.T), share**2 * (_alike(self.kinds) @ X.T), share**2 * X.T]
        bend = rbf_kernel(self.train_amounts_, gamma=_GAMMA_BEND)
        grams = [np.ones_like(bend), *(X @ covariance for covariance in reach), bend]
        mean_s = float(y.mean())
        variances, weights = _learn(grams, y / mean_s, self.seed)
        weights_s = weights * mean_s
        self.scales_ = dict(zip(SCALES, np.sqrt(variances).tolist(), strict=True))
        self.offset_s_ = float(variances[0] * weights_s.sum())
        self.block_s_ = np.zeros(len(self.kinds.layer))
        for variance, covariance in zip(variances[1:4], reach, strict=True):
            self.block_s_ += variance * (covariance @ weights_s)
        self.bend_s_ = variances[4] * weights_s
        self.floor_s_ = float(y.min()) / 10

    def _amounts(self, X: FloatArray) -> FloatArray:
        return np.asarray((X @ self.kinds.work - self.center_) / self.spread_)


def _alike(kinds: BlockKinds) -> FloatArray:
    """Compute the prior correlation of kinds, (kinds, kinds): 0 across layers, near 1 for similar choices."""
    spread = kinds.choices.std(axis=0)
    alike = rbf_kernel(kinds.choices / np.where(spread > 0, spread, 1.0), gamma=_GAMMA_CHOICES)
    return np.asarray(alike * (kinds.layer[:, None] == kinds.layer))


def _learn(grams: Sequence[FloatArray], z: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """Fit the squares of `SCALES` and the weights of the networks; z are their latencies over the mean."""
    some = np.random.default_rng(seed).permutation(len(z))[:_MAX_SEARCH_NETWORKS]
    some_grams = [gram[np.ix_(some, some)] for gram in grams]
    noise = z
    variances = _search(some_grams, z[some], noise[some])
    for _ in range(_HUBER_PASSES):
        factor, weights = _solve(grams, z, noise, variances)
        # Leave-one-out variance and error of each network (R&W 5.12); the variance as if it were no outlier.
        by_others = 1 / np.diag(cho_solve(factor, np.eye(len(z))))
        usual = np.maximum(by_others - variances[-1] * noise**2, 0) + variances[-1] * z**2
        noise = z * np.maximum(1, np.abs(weights * by_others) / np.sqrt(usual) / _HUBER)
    variances = _search(some_grams, z[some], noise[some])
    weights = _solve(grams, z, noise, variances)[1]
    # The robust fit discounts slow runs, which are part of the mean latency all the same: rescale it. Very
    # slow runs, as caused by another program, are clipped.
    fitted = z - variances[-1] * noise**2 * weights
    return variances, weights * float(np.clip(z / fitted, 1 - _MAX_RESIDUAL, 1 + _MAX_RESIDUAL).mean())


def _solve(
    grams: Sequence[FloatArray], z: FloatArray, noise: FloatArray, variances: FloatArray
) -> tuple[tuple[FloatArray, bool], FloatArray]:
    """Factor the covariance C of the networks, noise included, and solve C weights = z."""
    covariance = np.diag(variances[-1] * noise**2 + _JITTER)
    for variance, gram in zip(variances[:-1], grams, strict=True):
        covariance += variance * gram
    factor = cho_factor(covariance)
    return factor, cho_solve(factor, z)


def _search(grams: Sequence[FloatArray], z: FloatArray, noise: FloatArray) -> FloatArray:
    """Find the squares of `SCALES` that maximise marginal likelihood (R&W 5.9) times a log-normal prior."""

    def loss(logarithms: FloatArray) -> tuple[float, FloatArray]:
        variances = np.exp(2 * logarithms)
        factor, weights = _solve(grams, z, noise, variances)
        off = (logarithms - _LIKELY) / _SPREAD
        value = z @ weights / 2 + np.log(np.diag(factor[0])).sum() + off @ off / 2
        misfit = np.outer(weights, weights) - cho_solve(factor, np.eye(len(z)))
        slopes = np.array([*(np.vdot(misfit, gram) for gram in grams), np.diag(misfit) @ noise**2])
        return float(value), off / _SPREAD - variances * slopes

    found = minimize(
        loss, _LIKELY, jac=True, method="L-BFGS-B",
        bounds=[_BOUNDS] * len(SCALES), options={"maxiter": _MAX_SEARCH_STEPS},
    )  # fmt: skip
    return np.asarray(np.exp(2 * found.x))
