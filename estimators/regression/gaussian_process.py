"""Gaussian process regression: Matern 5/2 kernel, one length scale per input, white noise.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapters 4 (kernel) and 5 (evidence
and its gradient, leave-one-out errors in closed form). Not scikit-learn's, whose gradient holds a matrix per
input: by matrix products it is several times as fast. Letters are the book's: K the covariance of the rows,
L its Cholesky factor, alpha = K^-1 z.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from jmsnas.arrays import FloatArray

# Length scales are searched on a random part of a large table (the cost is cubic), then all rows are used.
MAX_SEARCH_ROWS = 384
_MAX_SEARCH_STEPS = 50
# Keeps the covariance invertible.
_JITTER = 1e-8
# Log-normal prior on the length scales of standardised inputs: 3, within a factor of about 4.
PRIOR_LENGTH_SCALE, _LENGTH_SD = 3.0, 1.4
# A normal error is beyond 3 standard deviations once in 370: such a row is treated as an outlier.
_OUTLIER = 3.0
# Kernel entries computed at once, so that they fit in a cache.
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """A fitted Gaussian process.

    Attributes
    ----------
    theta
        Logarithms of the signal's variance, of a length scale per input, and of the noise's variance.
    inputs, alpha
        Training inputs over their length scales, (rows, inputs), and the weights of the rows, (rows,).
    """

    theta: FloatArray
    inputs: FloatArray
    alpha: FloatArray

    def predict(self, Z: FloatArray) -> FloatArray:
        """Predict the posterior mean at standardised inputs, (rows,)."""
        signal, scales, _ = _split(self.theta)
        right, rows = _right(self.inputs), max(_CHUNK // len(self.inputs), 1)
        found, squares, r = np.empty(len(Z)), *np.empty((2, rows, len(right)))
        for start in range(0, len(Z), rows):
            part = Z[start : start + rows] / scales
            some = slice(len(part))
            found[start : start + rows] = _matern(_squares(part, right, squares[some]), r[some]) @ self.alpha
        return found * signal


def fit_gaussian_process(
    Z: FloatArray, z: FloatArray, variance: FloatArray, theta: FloatArray
) -> GaussianProcess:
    """Fit a Gaussian process; rows with outlying leave-one-out errors get more noise.

    `Z` (rows, inputs) and `z` (rows,) are standardised; `variance` (rows,) is known noise of each row, added
    to the white noise that all share; `theta` is as returned by `search_theta`. Raises ValueError when it
    does not suit the inputs, or the covariance cannot be inverted.
    """
    if len(theta) != Z.shape[1] + 2:
        raise ValueError(f"expected {Z.shape[1] + 2} numbers in theta, got {len(theta)}")
    signal, scales, noise = _split(theta)
    inputs = Z / scales
    K = signal * _matern(_squares(inputs, _right(inputs)))
    alpha, inverse = _solve(K, z, noise + variance)
    # Left out, row i is predicted with error alpha_i / K^-1_ii and variance 1 / K^-1_ii.
    error, own = alpha / inverse, 1 / inverse
    outlying = error**2 > _OUTLIER**2 * own
    if outlying.any():
        alpha, _ = _solve(K, z, noise + variance + np.where(outlying, error**2, 0.0))
    return GaussianProcess(theta, inputs, alpha)


def search_theta(Z: FloatArray, z: FloatArray, variance: FloatArray, seed: int) -> FloatArray:
    """Find the maximum-a-posteriori hyper-parameters: evidence of the rows times a prior on length scales."""
    some = np.random.default_rng(seed).permutation(len(Z))[:MAX_SEARCH_ROWS]
    inputs = Z.shape[1]
    usual = np.log(np.array([1.0, *[PRIOR_LENGTH_SCALE] * inputs, 0.1]))
    bounds = [(1e-2, 1e2), *[(0.1, 1e3)] * inputs, (1e-6, 10.0)]

    def objective(theta: FloatArray) -> tuple[float, FloatArray]:
        value, slope = _minus_log_evidence(theta, Z[some], z[some], variance[some])
        off = (theta - usual)[1:-1] / _LENGTH_SD
        slope[1:-1] += off / _LENGTH_SD
        return value + float(off @ off) / 2, slope

    found = minimize(
        objective,
        usual,
        jac=True,
        method="L-BFGS-B",
        bounds=np.log(bounds),
        options={"maxiter": _MAX_SEARCH_STEPS},
    )
    return np.asarray(found.x)


def _minus_log_evidence(
    theta: FloatArray, Z: FloatArray, z: FloatArray, variance: FloatArray
) -> tuple[float, FloatArray]:
    signal, scales, noise = _split(theta)
    X = Z / scales
    squares = _squares(X, _right(X))
    r = np.sqrt(squares)
    shape = signal * _matern(squares)
    decay = squares  # exp(-r), which `_matern` has left there
    K = shape.copy()
    K[np.diag_indices_from(K)] += noise + variance + _JITTER
    try:
        L = cholesky(K, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return 1e25, np.zeros_like(theta)
    alpha = cho_solve((L, True), z, check_finite=False)
    inverse = _inverse(L)
    W = np.outer(alpha, alpha) - inverse
    # dK/dlog(length d) is (x_d - x'_d)^2 times F / W, so that matrix products sum it up.
    F = W * (signal * 5 / 3 * (1 + r) * decay)
    slope = np.empty_like(theta)
    slope[0] = -(W * shape).sum() / 2
    slope[1:-1] = (X * (F @ X)).sum(axis=0) - F.sum(axis=1) @ (X * X)
    slope[-1] = -np.trace(W) * noise / 2
    return float(z @ alpha / 2 + np.log(np.diag(L)).sum()), slope


def _solve(K: FloatArray, z: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Compute K^-1 z and the diagonal of K^-1, with `variance` (rows,) added to the diagonal of K."""
    noisy = K.copy()
    noisy[np.diag_indices_from(noisy)] += variance + _JITTER
    try:
        L = cholesky(noisy, lower=True, overwrite_a=True)
    except LinAlgError as error:
        raise ValueError(f"the covariance cannot be inverted: {error}") from error
    return cho_solve((L, True), z), np.diag(_inverse(L)).copy()


def _inverse(L: FloatArray) -> FloatArray:
    # Above the diagonal is what L has there: zeros.
    lower, _ = dpotri(L, lower=1)
    inverse = lower + lower.T
    inverse[np.diag_indices_from(inverse)] /= 2
    return np.asarray(inverse)


def _split(theta: FloatArray) -> tuple[float, FloatArray, float]:
    values = np.exp(theta)
    return float(values[0]), values[1:-1], float(values[-1])


def _squares(A: FloatArray, right: FloatArray, out: FloatArray | None = None) -> FloatArray:
    """Compute r^2 = 5 |a - b|^2 of each row of A and each of B, as one product with `_right(B)`."""
    left = np.column_stack([-10 * A, 5 * (A * A).sum(axis=1), np.ones(len(A))])
    found = np.matmul(left, right.T, out=out)
    return np.asarray(np.maximum(found, 0, out=found))


def _right(B: FloatArray) -> FloatArray:
    """Make the right factor of `_squares`, (rows, inputs + 2): once for all rows on the left."""
    return np.column_stack([B, np.ones(len(B)), 5 * (B * B).sum(axis=1)])


def _matern(squares: FloatArray, out: FloatArray | None = None) -> FloatArray:
    """Compute Matern 5/2 of variance 1, (1 + r + r^2 / 3) exp(-r), from r^2, which is overwritten by exp(-r).

    The polynomial is written ((r + 3/2)^2 + 3/4) / 3 to save passes over memory, which dominate the time.
    """
    r: FloatArray = np.sqrt(squares, out=out)
    np.negative(r, out=squares)
    np.exp(squares, out=squares)
    r += 1.5
    r *= r
    r += 0.75
    r *= squares
    r /= 3
    return r
