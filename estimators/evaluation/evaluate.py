"""Evaluate U(.) on held-out blocks: errors, rank correlation and interval coverage, beside baselines.

Rows are held out in several ways (`regression.cross_validation`); model selection is repeated inside every
fold, so that it uses nothing of the held-out rows. Blocks without work are not scored: the estimator predicts
them by a rule, and baselines cannot. Shares are of one: 0.05 is 5 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from jmsnas.arrays import FloatArray
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
from jmsnas.estimators.regression.features import TrainingRows, features, group_ids
from jmsnas.estimators.regression.roofline import rows_to_score
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Block

MIN_GEOMETRIES = 3
UNSEEN_GEOMETRY, UNSEEN_CHANNELS, RANDOM = "unseen geometry", "unseen channels", "random"
_FEW = (20, 50, 100)


@dataclass(frozen=True, slots=True)
class Scores:
    """Errors of one predictor over held-out rows.

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
    """Measured seconds of a block, and its prediction with 90 % interval while its geometry was held out."""

    block: str
    measured_s: float
    predicted_s: float
    low_s: float
    high_s: float


@dataclass(frozen=True, slots=True)
class SplitScores:
    """Scores of all predictors on one kind of train/test split.

    Attributes
    ----------
    split
        `unseen geometry`, `unseen channels`, `random` or the number of training rows: `20 rows`.
    fits, rows
        Number of fits, and of predicted rows over all fits.
    scores
        By predictor, as in `HeldOutPredictions.predicted_s`.
    coverage
        Share of rows inside the estimator's 90 % interval.
    fit_s
        Mean wall time of a fit, model selection included.
    """

    split: str
    fits: int
    rows: int
    scores: dict[str, Scores]
    coverage: float
    fit_s: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Cross-validated errors of an estimator.

    Attributes
    ----------
    rows, geometries, folds, seed
        Number of rows, of layer geometries and of folds over geometries; seed of the folds.
    model, roofline, flops
        Scores on held-out geometries: of the estimator, of the roofline alone, of a least-squares line over
        MACs.
    coverage
        Share of rows of held-out geometries inside the estimator's 90 % interval.
    splits
        Scores of all baselines, on all kinds of splits.
    pairs
        Every row, for plots, predicted while its geometry was held out.
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


def scores(measured_s: FloatArray, predicted_s: FloatArray) -> Scores:
    """Compute the scores of predicted against measured seconds, each (rows,)."""
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
    blocks: Sequence[Block | BlockShape],
    measured_s: FloatArray,
    seed: int = 0,
    progress: Progress = no_progress,
    noise: FloatArray | None = None,
) -> Evaluation:
    """Cross-validate U(.) over layer geometries, and over channel pairs and random rows.

    `seed` and `noise` are as in `LatencyRegressor`. Raises EstimatorError for fewer than 3 layer geometries.
    """
    X = features(blocks)
    geometries = len(set(group_ids(X)))
    if geometries < MIN_GEOMETRIES:
        raise EstimatorError(
            f"got {len(X)} rows of {geometries} layer geometries: expected {MIN_GEOMETRIES} geometries "
            "or more, since an estimator is evaluated on held-out geometries. Profile more blocks"
        )
    rows = TrainingRows(X, measured_s, noise)
    splits = {UNSEEN_GEOMETRY: group_folds(X, seed=seed), **_other_splits(X, seed)}
    total, done, scored = sum(len(folds) for folds in splits.values()), 0, []
    for split, folds in splits.items():

        def part(fold: float, folds: float, what: str, done: int = done) -> None:
            progress(done + fold, total, what)

        found = predict_held_out(folds, rows, seed, part)
        scored.append(split_scores(split, folds, rows, found))
        done += len(folds)
        if split == UNSEEN_GEOMETRY:
            held_out = found
    first = scored[0]
    return Evaluation(
        rows=len(X),
        geometries=geometries,
        folds=first.fits,
        seed=seed,
        model=first.scores[MODEL],
        roofline=first.scores[ROOFLINE],
        flops=first.scores[LINE],
        coverage=first.coverage,
        splits=tuple(scored),
        pairs=_predicted_rows(blocks, measured_s, held_out),
    )


def _other_splits(X: FloatArray, seed: int) -> dict[str, list[Fold]]:
    """Make the splits other than by geometry, of few folds each, so that small tables take seconds.

    A split with a training set of a single layer geometry, as in small tables, is skipped.
    """
    splits = {UNSEEN_CHANNELS: channel_folds(X, seed, folds=3), RANDOM: random_folds(len(X), seed)[:1]}
    splits |= {f"{few} rows": few_row_folds(X, few, 1, seed) for few in _FEW}
    return {split: folds for split, folds in splits.items() if can_fit(X, folds)}


def split_scores(
    split: str, folds: Sequence[Fold], rows: TrainingRows, found: HeldOutPredictions
) -> SplitScores:
    """Score the predictions for a named split; noise weighs rows in fits only, not in the scores."""
    true_s, scored = rows.y[found.rows], rows_to_score(rows.X[found.rows])
    return SplitScores(
        split=split,
        fits=len(folds),
        rows=int(scored.sum()),
        scores={name: scores(true_s[scored], its_s[scored]) for name, its_s in found.predicted_s.items()},
        coverage=float(((found.low_s <= true_s) & (true_s <= found.high_s))[scored].mean()),
        fit_s=found.fit_s,
    )


def _predicted_rows(
    blocks: Sequence[Block | BlockShape], measured_s: FloatArray, found: HeldOutPredictions
) -> tuple[PredictedRow, ...]:
    numbers = np.column_stack([measured_s[found.rows], found.predicted_s[MODEL], found.low_s, found.high_s])
    rows = numbers[np.argsort(found.rows)].tolist()
    return tuple(PredictedRow(str(block), *row) for block, row in zip(blocks, rows, strict=True))
