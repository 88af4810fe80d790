"""How good U(.) is on blocks it never saw, beside simpler predictors.

Rows are held out in several ways (cross_validation.py);
the choice of the model is made anew inside every fold, so
that nothing about a held-out row, not even which model suits it, was known. Blocks that do no work, which
no model answers for, do not count: they would flatter the estimator and shame a line. Shares are of one:
0.05 is 5 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from jmsnas.errors import EstimatorError
from jmsnas.estimators.evaluation.hold_out import LINE, MODEL, ROOFLINE, HeldOutPredictions, predict_held_out
from jmsnas.estimators.regression.block_shape import BlockShape
from jmsnas.estimators.regression.cross_validation import (
    Fold,
    can_fit,
    channel_folds,
    few_row_folds,
    group_folds,
    random_folds,
)
from jmsnas.estimators.regression.features import features, group_ids
from jmsnas.estimators.regression.roofline import rows_to_score
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Block

Array = NDArray[np.float64]

MIN_GEOMETRIES = 3
UNSEEN_GEOMETRY, UNSEEN_CHANNELS, RANDOM = "unseen geometry", "unseen channels", "random"
_FEW = (20, 50, 100)


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
class PredictedRow:
    """A row as measured, and as predicted (with its 90 % interval) while its geometry was held out."""

    block: str
    measured_s: float
    predicted_s: float
    low_s: float
    high_s: float


@dataclass(frozen=True, slots=True)
class SplitScores:
    """Scores of all predictors on rows held out in one way.

    Attributes
    ----------
    split
        How: `unseen geometry`, `unseen channels`, `random`, `20 rows`.
    fits, rows
        How often a model was fitted, and how many rows it then predicted, over all fits.
    scores
        By predictor, as `HeldOut.said_s`.
    coverage
        Share of rows inside the estimator's 90 % interval.
    fit_s
        Mean seconds of a fit, the choice of the model among them.
    """

    split: str
    fits: int
    rows: int
    scores: dict[str, Scores]
    coverage: float
    fit_s: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good an estimator is on blocks it never saw.

    Attributes
    ----------
    rows, geometries, folds, seed
        How many rows of how many layer geometries, held out in how many parts, drawn how.
    model, roofline, flops
        On unseen geometries: scores of the whole estimator, of the roofline alone, of a least-squares line
        over MACs.
    coverage
        Share of rows of unseen geometries inside the estimator's 90 % interval.
    splits
        The same with more baselines, and other ways to hold rows out.
    pairs
        Every row, for pictures, predicted while its geometry was held out.
    """

    rows: int
    geometries: int
    folds: int
    seed: int
    model: Scores
    roofline: Scores
    flops: Scores
    coverage: float
    splits: tuple[SplitScores, ...]
    pairs: tuple[PredictedRow, ...]


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


def evaluate_split(
    split: str,
    folds: Sequence[Fold],
    X: Array,
    measured_s: Array,
    seed: int = 0,
    noise: Array | None = None,
    progress: Progress = no_progress,
) -> SplitScores:
    """Predict the unseen rows of every fold by models fitted to the seen ones.

    Parameters
    ----------
    split
        What to call it.
    X, measured_s
        Features (rows, features) and seconds (rows,).
    seed, noise
        As in `LatencyRegressor`: how much each row counts where a model is fitted; all are judged alike.

    Raises
    ------
    EstimatorError
        When the seen rows of a fold are of fewer than two layer geometries.
    """
    return _judged(split, folds, X, measured_s, predict_held_out(folds, X, measured_s, seed, noise, progress))


def evaluate(
    blocks: Sequence[Block | BlockShape],
    measured_s: Array,
    seed: int = 0,
    progress: Progress = no_progress,
    noise: Array | None = None,
) -> Evaluation:
    """Predict every block by a model that never saw its layer geometry, and some in other ways.

    Parameters
    ----------
    blocks, measured_s
        Blocks and their seconds, (rows,).
    seed, noise
        As in `judge`.

    Raises
    ------
    EstimatorError
        When the blocks are of fewer than three layer geometries.
    """
    X = features(blocks)
    geometries = len(set(group_ids(X))) if len(X) else 0
    if geometries < MIN_GEOMETRIES:
        raise EstimatorError(
            f"got {len(X)} rows of {geometries} layer geometries: expected {MIN_GEOMETRIES} geometries "
            "or more, since an estimator is judged on geometries it never saw. Profile more blocks"
        )
    ways = {UNSEEN_GEOMETRY: group_folds(X, seed=seed), **_other_ways(X, seed)}
    total, done, judged = sum(len(folds) for folds in ways.values()), 0, []
    for split, folds in ways.items():

        def part(fold: float, folds: float, what: str, done: int = done) -> None:
            progress(done + fold, total, what)

        found = predict_held_out(folds, X, measured_s, seed, noise, part)
        judged.append(_judged(split, folds, X, measured_s, found))
        done += len(folds)
        if split == UNSEEN_GEOMETRY:
            held_out = found
    first = judged[0]
    return Evaluation(
        rows=len(X),
        geometries=geometries,
        folds=first.fits,
        seed=seed,
        model=first.scores[MODEL],
        roofline=first.scores[ROOFLINE],
        flops=first.scores[LINE],
        coverage=first.coverage,
        splits=tuple(judged),
        pairs=_pairs(blocks, measured_s, held_out),
    )


def _other_ways(X: Array, seed: int) -> dict[str, list[Fold]]:
    """Hold rows out in the ways that need few fits, so that a small table is judged in seconds.

    A way that would leave a model one layer geometry to learn from, as in a table of few, is left out.
    """
    ways = {UNSEEN_CHANNELS: channel_folds(X, seed, folds=3), RANDOM: random_folds(len(X), seed)[:1]}
    ways |= {f"{few} rows": few_row_folds(X, few, 1, seed) for few in _FEW}
    return {split: folds for split, folds in ways.items() if can_fit(X, folds)}


def _judged(
    split: str, folds: Sequence[Fold], X: Array, measured_s: Array, found: HeldOutPredictions
) -> SplitScores:
    true_s, busy = measured_s[found.rows], rows_to_score(X[found.rows])
    return SplitScores(
        split,
        len(folds),
        int(busy.sum()),
        {name: scores(true_s[busy], predicted_s[busy]) for name, predicted_s in found.predicted_s.items()},
        float(((found.low_s <= true_s) & (true_s <= found.high_s))[busy].mean()),
        found.fit_s,
    )


def _pairs(
    blocks: Sequence[Block | BlockShape], measured_s: Array, found: HeldOutPredictions
) -> tuple[PredictedRow, ...]:
    order = np.argsort(found.rows)
    numbers = np.stack([measured_s[found.rows], found.predicted_s[MODEL], found.low_s, found.high_s])[
        :, order
    ]
    return tuple(
        PredictedRow(str(block), *row) for block, row in zip(blocks, numbers.T.tolist(), strict=True)
    )
