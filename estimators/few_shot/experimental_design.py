"""Which blocks teach most about all the others: where the first few measurements go.

Before anything is measured log(seconds) is two unknowns: the rates of a roofline, of which a block shows
those that its time is made of, and a rough function of geometry, much the same for blocks much alike. The
next block is always the one that lowers the mean variance over all blocks most. Chaloner and Verdinelli,
Statistical Science 10(3), 1995 (Bayesian design); Cohn, Ghahramani and Jordan, JAIR 4, 1996 (this criterion);
Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapter 2. No latency enters, so the
order is known beforehand, and the first n of it are the same whatever n.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from jmsnas.errors import EstimatorError
from jmsnas.estimators.regression.cross_validation import Fold
from jmsnas.estimators.regression.features import RESIDUAL, ROOFLINE, columns, features, group_ids
from jmsnas.space import Block

Array = NDArray[np.float64]

# A matrix of all pairs: 128 MB.
MAX_BLOCKS = 4000
# What a core of a small processor does: 5 GMAC/s, 4 GB/s, and 5 us to launch an operator or to be called.
_S_A_UNIT = {"macs": 1 / 5e9, "bytes": 1 / 4e9}
_S_A_LAUNCH = 5e-6
# Standard deviations, in shares of latency: of a rate, of what no roofline explains, of a measurement beside
# the function of geometry. Halved and doubled they choose about equally well on published tables.
_RATES, _ROUGH, _OWN = 1.0, 0.3, 0.05
# exp(-d / 7), d the sum of differences over standardised sizes: what two of 14 inputs differ in is shared.
_REACH = 7.0


def informative_order(blocks: Sequence[Block], count: int | None = None) -> tuple[Block, ...]:
    """Put blocks in the order in which they teach most about all of `blocks`.

    Parameters
    ----------
    blocks
        What can be measured, and is to be predicted; each once.
    count
        How many to put in order, from the first on; None: all.

    Raises
    ------
    EstimatorError
        For more than 4,000 blocks.
    """
    order = informative_rows(features(blocks), len(blocks) if count is None else count)
    return tuple(blocks[row] for row in order.tolist())


def informative_rows(X: Array, count: int) -> NDArray[np.int64]:
    """Give the `count` rows (all, where there are no more) that teach most about all rows, best first.

    Parameters
    ----------
    X
        (rows, features) as `features` makes it.

    Raises
    ------
    EstimatorError
        For more than 4,000 rows.
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
        variance = np.diag(covariance) + _OWN**2
        gain = np.einsum("ij,ij->j", covariance, covariance) / variance
        order[n] = best = int(np.where(chosen, -1.0, gain).argmax())
        chosen[best] = True
        shown = covariance[best] / np.sqrt(variance[best])
        covariance -= np.outer(shown, shown)
    return order


def few_chosen(X: Array, few: int, times: int, seed: int = 0) -> list[Fold]:
    """Choose `few` rows to see, `times` times, each time from another random half; the rest is unseen.

    As `splits.few_rows`, which draws them at random: none where they would be more than half of the rows.
    """
    if 2 * few > len(X):
        return []
    found = []
    for n in range(times):
        half = np.random.default_rng((seed, n)).permutation(len(X))[: max(len(X) // 2, 2 * few)]
        seen = half[informative_rows(X[half], few)]
        found.append((seen, np.setdiff1d(np.arange(len(X)), seen)))
    return [(seen, unseen) for seen, unseen in found if len(set(group_ids(X[seen]))) > 1]


def _covariance(X: Array) -> Array:
    """Covariance of log(seconds) between rows before any was measured, (rows, rows)."""
    # Few kernels are overpadded, and on few devices that matters: no block is spent on it before others are.
    rates = [name for name in ROOFLINE if name != "overpadded_macs"]
    each_s = [_S_A_UNIT.get(name.rpartition("_")[2], _S_A_LAUNCH) for name in rates]
    spent_s = np.column_stack([X[:, columns(rates)] * each_s, np.full(len(X), _S_A_LAUNCH)])
    # d log(seconds) / d log(rate) is the share of the time that is spent at that rate.
    shares = _RATES * spent_s / spent_s.sum(axis=1, keepdims=True)
    sizes = X[:, columns(RESIDUAL)]
    spread = sizes.std(axis=0)
    Z = (sizes - sizes.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    return np.asarray(shares @ shares.T + _ROUGH**2 * np.exp(-cdist(Z, Z, "cityblock") / _REACH))
