"""A Gaussian process on the logarithm of latency: Matern 5/2, one length scale an input, white noise.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapters 4 (kernel) and 5 (evidence
and its gradient, leave-one-out errors in closed form). Written out because a gradient by products of matrices
is several times as fast as scikit-learn's, which holds a matrix an input. Letters are the book's: K the
covariance of the rows, L its Cholesky factor, alpha = K^-1 z.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

Array = NDArray[np.float64]

# Length scales are searched on a random part of a large table (the cost is cubic), then all rows are used.
MAX_SEARCH_ROWS = 384
_MAX_SEARCH_STEPS = 50
# Keeps the covariance invertible.
_JITTER = 1e-8
# Length scales of standardised inputs are around 3, within a factor of 4 or so: rows are few and inputs many.
PRIOR_LENGTH_SCALE, _LENGTH_SD = 3.0, 1.4
# A normal error beyond 3 standard deviations is one in 370: a row that far off is not of the same kind.
_STRANGE = 3.0
# Numbers at once, so that what is worked on fits a cache.
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """A process that knows its rows: what `predict` needs.

    Attributes
    ----------
    theta
        Logarithms of the signal's variance, of a length scale an input, and of the noise's variance.
    inputs
        (rows, inputs) over their length scales, and `alpha` (rows,) the weights of the rows.
    """

    theta: Array
    inputs: Array
    alpha: Array

    def predict(self, Z: Array) -> Array:
        """Mean at standardised inputs, (rows,)."""
        signal, scales, _ = _split(self.theta)
        right, rows = _right(self.inputs), max(_CHUNK // len(self.inputs), 1)
        found, squares, r = np.empty(len(Z)), *np.empty((2, rows, len(right)))
        for start in range(0, len(Z), rows):
            part = Z[start : start + rows] / scales
            some = slice(len(part))
            found[start : start + rows] = _matern(_squares(part, right, squares[some]), r[some]) @ self.alpha
        return found * signal


def fit_gaussian_process(Z: Array, z: Array, variance: Array, theta: Array) -> GaussianProcess:
    """Fit to all rows; those that the others contradict count as noisier than they said.

    Parameters
    ----------
    Z, z
        Standardised inputs (rows, inputs) and targets (rows,).
    variance
        (rows,) what is known of each row's own noise, on top of the white noise that all share.
    theta
        As `search_theta` gives it.

    Raises
    ------
    ValueError
        When `theta` does not suit the inputs, or the covariance cannot be inverted.
    """
    if len(theta) != Z.shape[1] + 2:
        raise ValueError(f"expected {Z.shape[1] + 2} numbers in theta, got {len(theta)}")
    signal, scales, noise = _split(theta)
    inputs = Z / scales
    K = signal * _matern(_squares(inputs, _right(inputs)))
    alpha, inverse = _solve(K, z, noise + variance)
    # Left out, row i is predicted with error alpha_i / K^-1_ii and variance 1 / K^-1_ii.
    error, own = alpha / inverse, 1 / inverse
    strange = error**2 > _STRANGE**2 * own
    if strange.any():
        alpha, _ = _solve(K, z, noise + variance + np.where(strange, error**2, 0.0))
    return GaussianProcess(theta, inputs, alpha)


def search_theta(Z: Array, z: Array, variance: Array, seed: int) -> Array:
    """Find the most probable hyper-parameters: evidence of the rows times a prior on length scales."""
    some = np.random.default_rng(seed).permutation(len(Z))[:MAX_SEARCH_ROWS]
    inputs = Z.shape[1]
    usual = np.log(np.array([1.0, *[PRIOR_LENGTH_SCALE] * inputs, 0.1]))
    bounds = [(1e-2, 1e2), *[(0.1, 1e3)] * inputs, (1e-6, 10.0)]

    def objective(theta: Array) -> tuple[float, Array]:
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


def _minus_log_evidence(theta: Array, Z: Array, z: Array, variance: Array) -> tuple[float, Array]:
    signal, scales, noise = _split(theta)
    X = Z / scales
    squares = _squares(X, _right(X))
    r = np.sqrt(squares)
    shape = signal * _matern(squares)
    K = shape.copy()
    K[np.diag_indices_from(K)] += noise + variance + _JITTER
    try:
        L = cholesky(K, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return 1e25, np.zeros_like(theta)
    alpha = cho_solve((L, True), z, check_finite=False)
    inverse = _inverse(L)
    W = np.outer(alpha, alpha) - inverse
    # dK/dlog(length d) is (x_d - x'_d)^2 times this, so that products of matrices sum it up.
    F = W * (signal * 5 / 3 * (1 + r) * np.exp(-r))
    slope = np.empty_like(theta)
    slope[0] = -(W * shape).sum() / 2
    slope[1:-1] = (X * (F @ X)).sum(axis=0) - F.sum(axis=1) @ (X * X)
    slope[-1] = -np.trace(W) * noise / 2
    return float(z @ alpha / 2 + np.log(np.diag(L)).sum()), slope


def _solve(K: Array, z: Array, variance: Array) -> tuple[Array, Array]:
    """Give K^-1 z and the diagonal of K^-1, with `variance` (rows,) added to the diagonal of K."""
    noisy = K.copy()
    noisy[np.diag_indices_from(noisy)] += variance + _JITTER
    try:
        L = cholesky(noisy, lower=True, overwrite_a=True)
    except LinAlgError as error:
        raise ValueError(f"the covariance cannot be inverted: {error}") from error
    return cho_solve((L, True), z), np.diag(_inverse(L)).copy()


def _inverse(L: Array) -> Array:
    inverse, _ = dpotri(L, lower=1)
    lower = np.tril(inverse, -1)
    return np.asarray(lower + lower.T + np.diag(np.diag(inverse)))


def _split(theta: Array) -> tuple[float, Array, float]:
    values = np.exp(theta)
    return float(values[0]), values[1:-1], float(values[-1])


def _squares(A: Array, right: Array, out: Array | None = None) -> Array:
    """Give r^2 = 5 |a - b|^2 of each row of A and each of B, as one product with `_right(B)`."""
    left = np.column_stack([-10 * A, 5 * (A * A).sum(axis=1), np.ones(len(A))])
    found = np.matmul(left, right.T, out=out)
    return np.asarray(np.maximum(found, 0, out=found))


def _right(B: Array) -> Array:
    """Make the right factor of `_squares`, (rows, inputs + 2): once for all rows on the left."""
    return np.column_stack([B, np.ones(len(B)), 5 * (B * B).sum(axis=1)])


def _matern(squares: Array, out: Array | None = None) -> Array:
    """Matern 5/2 of variance 1, (1 + r + r^2 / 3) exp(-r), from r^2, which is written over.

    The polynomial is ((r + 3/2)^2 + 3/4) / 3: fewer passes over memory, which take most of the time.
    """
    r: Array = np.sqrt(squares, out=out)
    np.negative(r, out=squares)
    np.exp(squares, out=squares)
    r += 1.5
    r *= r
    r += 0.75
    r *= squares
    r /= 3
    return r
