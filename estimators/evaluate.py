"""How good U(.) is on layer geometries it never saw, beside two simpler predictors.

Whole geometries are held out, five ways; the choice of the model is made anew inside every fold, so
that nothing about a held-out row, not even which model suits it, was known. Shares are of one: 0.05
is 5 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from jmsnas.cost import cost
from jmsnas.errors import EstimatorError
from jmsnas.estimators.features import features, geometry_groups
from jmsnas.estimators.regressor import LatencyRegressor, geometry_folds
from jmsnas.estimators.roofline import fit_roofline, roofline_s
from jmsnas.progress import Progress, silent
from jmsnas.space import Block

Array = NDArray[np.float64]

COVERAGE = 0.9
MIN_GEOMETRIES = 3


@dataclass(frozen=True, slots=True)
class Scores:
    """Errors of one predictor over all rows, each predicted without its geometry having been seen.

    Attributes
    ----------
    mape, rmspe
        Mean, and root mean square, of |predicted / measured - 1|.
    within_5, within_10
        Share of rows predicted within 5 % and 10 % of the measured latency.
    spearman
        Rank correlation of predicted and measured; None where either is the same for all rows.
    """

    mape: float
    rmspe: float
    within_5: float
    within_10: float
    spearman: float | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A row as measured, and as predicted (with its 90 % interval) while its geometry was held out."""

    block: str
    measured_s: float
    predicted_s: float
    low_s: float
    high_s: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good an estimator is on layer geometries it never saw.

    Attributes
    ----------
    rows, geometries, folds, seed
        How many rows of how many layer geometries, held out in how many parts, drawn how.
    model, roofline, flops
        Scores of the whole estimator, of the roofline alone, of a least-squares line over MACs.
    coverage
        Share of rows inside the estimator's 90 % interval.
    pairs
        Every row, for pictures.
    """

    rows: int
    geometries: int
    folds: int
    seed: int
    model: Scores
    roofline: Scores
    flops: Scores
    coverage: float
    pairs: tuple[Pair, ...]


def scores(measured_s: Array, predicted_s: Array) -> Scores:
    """Compare predicted with measured seconds, each (rows,)."""
    errors = np.abs(predicted_s / measured_s - 1)
    ranked = np.ptp(measured_s) > 0 and np.ptp(predicted_s) > 0
    return Scores(
        mape=float(errors.mean()),
        rmspe=float(np.sqrt((errors**2).mean())),
        within_5=float((errors <= 0.05).mean()),
        within_10=float((errors <= 0.10).mean()),
        spearman=float(spearmanr(measured_s, predicted_s).statistic) if ranked else None,
    )


def evaluate(
    blocks: Sequence[Block],
    measured_s: Array,
    seed: int = 0,
    progress: Progress = silent,
    noise: Array | None = None,
) -> Evaluation:
    """Predict every block by a model that never saw its layer geometry.

    Parameters
    ----------
    blocks, measured_s
        Blocks and their seconds, (rows,).
    seed
        As in `LatencyRegressor`.
    noise
        As in `LatencyRegressor.fit`: how much each row counts where a model is fitted; all are judged alike.

    Raises
    ------
    EstimatorError
        When the blocks are of fewer than three layer geometries.
    """
    table = features(blocks)
    geometries = len(set(geometry_groups(table))) if len(table) else 0
    if geometries < MIN_GEOMETRIES:
        raise EstimatorError(
            f"got {len(table)} rows of {geometries} layer geometries: expected {MIN_GEOMETRIES} geometries "
            "or more, since an estimator is judged on geometries it never saw. Profile more blocks"
        )
    macs = np.array([[cost(block).macs, 1.0] for block in blocks])
    # Rows: whole estimator, low, high, roofline, line over MACs.
    predicted_s = np.empty((5, len(table)))
    folds = geometry_folds(table)
    for done, (seen, unseen) in enumerate(folds):
        progress(done, len(folds), "judging on unseen layer geometries")
        seen_noise = None if noise is None else noise[seen]
        regressor = LatencyRegressor(seed).fit(table[seen], measured_s[seen], seen_noise)
        predicted_s[0, unseen] = regressor.predict(table[unseen])
        predicted_s[1:3, unseen] = regressor.predict_interval(table[unseen], COVERAGE)
        predicted_s[3, unseen] = roofline_s(
            table[unseen], fit_roofline(table[seen], measured_s[seen], seen_noise)
        )
        line, *_ = np.linalg.lstsq(macs[seen], measured_s[seen])
        predicted_s[4, unseen] = macs[unseen] @ line
    low_s, high_s = predicted_s[1:3]
    return Evaluation(
        rows=len(table),
        geometries=geometries,
        folds=len(folds),
        seed=seed,
        model=scores(measured_s, predicted_s[0]),
        roofline=scores(measured_s, predicted_s[3]),
        flops=scores(measured_s, predicted_s[4]),
        coverage=float(((low_s <= measured_s) & (measured_s <= high_s)).mean()),
        pairs=tuple(
            Pair(str(block), *(float(number) for number in numbers))
            for block, *numbers in zip(blocks, measured_s, *predicted_s[:3], strict=True)
        ),
    )


def evaluation_from(document: Mapping[str, Any]) -> Evaluation:
    """Read an evaluation back from what `dataclasses.asdict` made of it.

    Raises KeyError, TypeError or ValueError where the document is none.
    """
    rows, geometries, folds, seed = (int(document[name]) for name in ("rows", "geometries", "folds", "seed"))
    model, roofline, flops = (_scores_from(document[name]) for name in ("model", "roofline", "flops"))
    pairs = tuple(
        Pair(str(pair["block"]), *(float(pair[name]) for name in _PAIR_SECONDS)) for pair in document["pairs"]
    )
    coverage = float(document["coverage"])
    return Evaluation(rows, geometries, folds, seed, model, roofline, flops, coverage, pairs)


_PAIR_SECONDS = ("measured_s", "predicted_s", "low_s", "high_s")


def _scores_from(document: Mapping[str, Any]) -> Scores:
    mape, rmspe, *within = (float(document[name]) for name in ("mape", "rmspe", "within_5", "within_10"))
    spearman = document["spearman"]
    return Scores(mape, rmspe, within[0], within[1], None if spearman is None else float(spearman))
