"""Seconds of whole networks, learned from a few that were measured from end to end.

T = offset + sum of the blocks' seconds + bend. A block's seconds are rates times its work, plus a deviation
that it shares with like choices at its layer, plus one of its own; the bend is what a network is more or less
than the sum of its blocks. All are drawn towards zero, each sort by a scale of its own, and the marginal
likelihood of the measured networks, with a prior over the scales, says by how much: what ten networks cannot
show stays at zero. Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapters 2 and 5.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics.pairwise import rbf_kernel
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from jmsnas.errors import EstimatorError
from jmsnas.estimators.networks.block_kinds import BlockKinds

Array = NDArray[np.float64]

MIN_NETWORKS = 3
# What is drawn towards zero, the noise of a measurement last; the scales are standard deviations, in shares
# of a mean network, of a mean block for the two deviations.
SCALES = ("offset", "work", "choices", "kinds", "bend", "noise")
_LIKELY = np.log([0.1, 0.3, 0.1, 0.1, 0.02, 0.04])
# By how much, in logarithms, the networks may well say otherwise.
_SPREAD = np.array([0.5, 0.7, 0.7, 0.7, 1.0, 1.0])
_BOUNDS = (-9.0, 3.0)
# exp(-gamma d^2) of standardised inputs: a length scale of 2 among choices, about 3 among amounts of work.
_GAMMA_CHOICES, _GAMMA_BEND = 0.125, 0.05
# Standard deviations by which a network may be off before it is believed less: Huber's constant (Ann. Math.
# Statist. 35(1), 1964), 95 % efficient where noise is normal. Runs beside other work are slower, not faster.
_HUBER = 1.345
_HUBER_PASSES = 2
# How far a run may be off, as a share, and be counted in full among what networks take on the mean.
_USUAL_RUN = 0.25
# Scales are searched on a random part of many networks (the cost is cubic), then all networks are used.
_MAX_SEARCH_NETWORKS = 256
_MAX_SEARCH_STEPS = 50
# Keeps the covariance invertible where networks repeat; far below any noise.
_JITTER = 1e-9


class NetworkRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Latency of networks in the manner of scikit-learn: `fit(X, y)`, `predict(X)`.

    Parameters
    ----------
    kinds
        The kinds of block that a network may hold, those of networks to predict included.
    seed
        Draws the networks on which the scales are searched, where there are more than 256.

    Attributes
    ----------
    scales_
        What was found for `SCALES`.
    offset_s_, block_s_
        Seconds of a network without blocks; seconds of each kind inside a network, (kinds,). A kind that
        stood in no measured network has what its work and its like have taught.
    """

    def __init__(self, kinds: BlockKinds, seed: int = 0) -> None:
        self.kinds = kinds
        self.seed = seed

    def fit(self, X: Array, y: Array) -> "NetworkRegressor":
        """Learn from measured networks.

        Parameters
        ----------
        X
            (networks, kinds) how often each kind of block stands in each network.
        y
            (networks,) measured seconds, positive.

        Raises
        ------
        EstimatorError
            For shapes that do not fit, negative counts, fewer than 3 networks, or latencies that are not
            positive and finite.
        """
        self._check(X)
        if y.shape != X.shape[:1] or len(y) < MIN_NETWORKS:
            raise EstimatorError(
                f"got {len(X)} networks and latencies of shape {y.shape}: expected one latency a network and "
                f"{MIN_NETWORKS} networks or more. Measure more with: jmsnas profile --parts 10"
            )
        if not (np.isfinite(y).all() and (y > 0).all()):
            raise EstimatorError("got a network's latency that is not positive and finite: measure it again")
        # Matrices are small: a second BLAS thread only makes the first one wait.
        with threadpool_limits(1, user_api="blas"):
            self._fit(X, y)
        return self

    def predict(self, X: Array) -> Array:
        """Predict seconds, positive, (networks,), from counts as `fit` takes them. Raises EstimatorError."""
        self._check(X)
        seconds = self.offset_s_ + X @ self.block_s_
        if len(X):
            seconds += rbf_kernel(self._amounts(X), self.seen_, gamma=_GAMMA_BEND) @ self.bend_s_
        # Far from all that was measured a sum of deviations may fall below any network's time.
        return np.asarray(np.maximum(seconds, self.floor_s_))

    def _check(self, X: Array) -> None:
        if X.ndim != 2 or X.shape[1] != len(self.kinds.layer):
            raise EstimatorError(
                f"got counts of shape {X.shape}: expected (networks, {len(self.kinds.layer)}), a column for "
                "each kind of block"
            )
        if not (np.isfinite(X).all() and (X >= 0).all()):
            raise EstimatorError("got a network that holds a negative or unknown number of some block")

    def _fit(self, X: Array, y: Array) -> None:
        totals = X @ self.kinds.work
        self.center_, spread = totals.mean(axis=0), totals.std(axis=0)
        # An amount that all networks share, but for rounding, says nothing.
        self.spread_ = np.where(spread > 1e-9 * self.center_, spread, np.inf)
        self.seen_ = self._amounts(X)
        rates = self.kinds.work / np.where(self.center_ > 0, self.center_, np.inf)
        share = 1 / max(float(X.sum(axis=1).mean()), 1.0)
        # Covariances of the kinds' seconds with the networks', (kinds, networks): work, choices, kinds.
        reach = [rates @ (rates.T @ X.T), share**2 * (_alike(self.kinds) @ X.T), share**2 * X.T]
        bend = rbf_kernel(self.seen_, gamma=_GAMMA_BEND)
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

    def _amounts(self, X: Array) -> Array:
        return np.asarray((X @ self.kinds.work - self.center_) / self.spread_)


def _alike(kinds: BlockKinds) -> Array:
    """Correlate the deviations of kinds, (kinds, kinds): 0 across layers, near 1 for like choices."""
    spread = kinds.choices.std(axis=0)
    alike = rbf_kernel(kinds.choices / np.where(spread > 0, spread, 1.0), gamma=_GAMMA_CHOICES)
    return np.asarray(alike * (kinds.layer[:, None] == kinds.layer))


def _learn(grams: Sequence[Array], z: Array, seed: int) -> tuple[Array, Array]:
    """Find the squares of `SCALES`, and what each network (z, in shares of their mean) is to weigh."""
    some = np.random.default_rng(seed).permutation(len(z))[:_MAX_SEARCH_NETWORKS]
    some_grams = [gram[np.ix_(some, some)] for gram in grams]
    noise = z
    variances = _search(some_grams, z[some], noise[some])
    for _ in range(_HUBER_PASSES):
        factor, weights = _solve(grams, z, noise, variances)
        # Variance and error of each network by all others (R&W 5.12); the variance as if it were no outlier.
        by_others = 1 / np.diag(cho_solve(factor, np.eye(len(z))))
        usual = np.maximum(by_others - variances[-1] * noise**2, 0) + variances[-1] * z**2
        noise = z * np.maximum(1, np.abs(weights * by_others) / np.sqrt(usual) / _HUBER)
    variances = _search(some_grams, z[some], noise[some])
    weights = _solve(grams, z, noise, variances)[1]
    # Slow runs say little of where the time goes, but they are part of how long networks take; not a few very
    # slow ones, as another program makes them.
    fitted = z - variances[-1] * noise**2 * weights
    return variances, weights * float(np.clip(z / fitted, 1 - _USUAL_RUN, 1 + _USUAL_RUN).mean())


def _solve(
    grams: Sequence[Array], z: Array, noise: Array, variances: Array
) -> tuple[tuple[Array, bool], Array]:
    """Factor the covariance C of the networks, noise of each among it, and solve C weights = z."""
    covariance = np.diag(variances[-1] * noise**2 + _JITTER)
    for variance, gram in zip(variances[:-1], grams, strict=True):
        covariance += variance * gram
    factor = cho_factor(covariance)
    return factor, cho_solve(factor, z)


def _search(grams: Sequence[Array], z: Array, noise: Array) -> Array:
    """Search the likeliest squares of `SCALES`: marginal likelihood (R&W 5.9) times a log-normal prior."""

    def loss(logarithms: Array) -> tuple[float, Array]:
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
