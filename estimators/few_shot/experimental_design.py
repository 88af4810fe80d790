"""Bayesian experimental design: the order in which to measure blocks for the best latency regression.

The prior of log(seconds) is the sum of two parts: roofline rates, each weighted by the share of the block's
time spent at it, and a Gaussian process over geometry. The next block is greedily the one that most lowers
the mean variance over all blocks. Chaloner and Verdinelli, Statistical Science 10(3), 1995 (Bayesian design);
Cohn, Ghahramani and Jordan, JAIR 4, 1996 (this criterion); Rasmussen and Williams, Gaussian Processes for
Machine Learning, 2006, chapter 2. The order does not depend on any latency, and the first n blocks do not
depend on n.
"""

import numpy as np
from scipy.spatial.distance import cdist

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.errors import EstimatorError
from jmsnas.estimators.regression.features import RESIDUAL, ROOFLINE, columns

# The covariance of all pairs takes 128 MB.
MAX_BLOCKS = 4000
# A core of a small processor: 5 GMAC/s, 4 GB/s, and 5 us per operator launch and per call.
_S_PER_UNIT = {"macs": 1 / 5e9, "bytes": 1 / 4e9}
_S_PER_LAUNCH = 5e-6
# Prior standard deviations, as shares of latency: of a rate, of the Gaussian process, of the noise. Halved or
# doubled they choose about equally well on published tables.
_RATE_SD, _PROCESS_SD, _NOISE_SD = 1.0, 0.3, 0.05
# Length scale of the kernel exp(-d / 7), d the L1 distance over 14 standardised inputs.
_LENGTH_SCALE = 7.0


def informative_rows(X: FloatArray, count: int) -> IntArray:
    """Return the indices of the `count` rows that tell most about all rows, the most informative first.

    `X` is (rows, features) as `features` makes it; all rows are returned where there are fewer than `count`.
    Raises EstimatorError for more than 4,000 rows.
    """
    if len(X) > MAX_BLOCKS:
        raise EstimatorError(
            f"got {len(X)} blocks to choose from: expected {MAX_BLOCKS} or fewer. Give a smaller --off-grid"
        )
    order = np.empty(min(count, len(X)), dtype=np.int64)
    if not len(order):
        return order
    covariance, chosen = _covariance(X), np.zeros(len(X), dtype=bool)
    for n in range(len(order)):
        variance = np.diag(covariance) + _NOISE_SD**2
        gain = np.einsum("ij,ij->j", covariance, covariance) / variance
        order[n] = best = int(np.where(chosen, -1.0, gain).argmax())
        chosen[best] = True
        explained = covariance[best] / np.sqrt(variance[best])
        covariance -= np.outer(explained, explained)
    return order


def _covariance(X: FloatArray) -> FloatArray:
    """Compute the prior covariance of log(seconds) between rows, (rows, rows)."""
    # Overpadded kernels are rare and matter on few devices: no measurement is spent on their rate.
    rates = [name for name in ROOFLINE if name != "overpadded_macs"]
    each_s = [_S_PER_UNIT.get(name.rpartition("_")[2], _S_PER_LAUNCH) for name in rates]
    spent_s = np.column_stack([X[:, columns(rates)] * each_s, np.full(len(X), _S_PER_LAUNCH)])
    # d log(seconds) / d log(rate) is the share of the time spent at that rate.
    shares = _RATE_SD * spent_s / spent_s.sum(axis=1, keepdims=True)
    sizes = X[:, columns(RESIDUAL)]
    spread = sizes.std(axis=0)
    Z = (sizes - sizes.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    return np.asarray(shares @ shares.T + _PROCESS_SD**2 * np.exp(-cdist(Z, Z, "cityblock") / _LENGTH_SCALE))
