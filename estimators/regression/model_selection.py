"""Select the latency model of a table by cross-validation over whole layer geometries.

Folds are never random rows: other rows of the same geometry would be in the training set, and a model that
overfits would score best. Of models that are equally good the simplest is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.estimators.regression.conformal import LEVELS, training_range
from jmsnas.estimators.regression.cross_validation import (
    FOLDS,
    Fold,
    channel_folds,
    clustered_mean,
    group_folds,
    random_folds,
)
from jmsnas.estimators.regression.features import TrainingRows, group_ids
from jmsnas.estimators.regression.gaussian_process import MAX_SEARCH_ROWS
from jmsnas.estimators.regression.residual_models import ResidualModel, candidate_models, fit_residual_model
from jmsnas.estimators.regression.roofline import (
    ROOFLINE_KINDS,
    fit_roofline,
    has_work,
    roofline_s,
    rows_to_score,
)

T = TypeVar("T")
ModelNames = tuple[str, ...]

# Prefer the simpler model unless the mean error falls by more than 0.1 % of latency and by more than a
# multiple of the gain's standard error. The first residual model must also lower the roofline's error by 5 %,
# or noise would be fitted.
_MIN_GAIN, _ROOFLINE_ERRORS, _RESIDUAL_ERRORS, _FIRST_GAIN = 1e-3, 1.0, 0.25, 0.05
# Shrinkage factors tried for residual models: with few rows a correction by half may predict better.
_SHARES = (0.5, 1.0)
# Few rows have few geometries: with more folds the training sets resemble the whole table. With more rows a
# rate for each stage is never worse than a merged one.
_FEW_ROWS, _FOLDS_OF_FEW = 200, 10


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Result of model selection: all that is needed to fit the same rows again without a search.

    Attributes
    ----------
    roofline
        One of `ROOFLINE_KINDS`.
    residual, share
        Keys of `residual_models.MODELS` (empty: the roofline alone), and the factor that their mean is
        multiplied by (shrinkage).
    theta
        Hyper-parameters of the Gaussian process (`gaussian_process.search_theta`); empty without one.
    mapes
        (models, mean absolute relative error on held-out geometries) of all candidates, the simplest, the
        roofline alone, first.
    log_errors
        For each of `conformal.LEVELS`, sorted |log(measured / predicted)| of held-out rows, divided by the
        widening of their intervals.
    """

    roofline: str
    residual: ModelNames
    share: float
    theta: tuple[float, ...]
    mapes: tuple[tuple[ModelNames, float], ...]
    log_errors: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A fitted roofline times the exponential of a fitted residual model.

    Attributes
    ----------
    rates
        Seconds per unit of each column of `ROOFLINE`, then the constant in seconds.
    floor_s
        Lower bound of the roofline: a tenth of the fastest row.
    idle_s
        Latency of any block without work: the median of the measured ones, else the constant.
    residual
        The residual model.
    """

    rates: FloatArray
    floor_s: float
    idle_s: float
    residual: ResidualModel

    def roofline_s(self, X: FloatArray) -> FloatArray:
        """Predict seconds by the roofline alone, (rows,)."""
        working_s = np.maximum(roofline_s(X, self.rates), self.floor_s)
        return np.where(has_work(X), working_s, self.idle_s)

    def predict_s(self, X: FloatArray) -> FloatArray:
        """Predict seconds, (rows,)."""
        base_s = self.roofline_s(X)
        correction = np.where(has_work(X), self.residual.correction(X, base_s), 0.0)
        return np.asarray(base_s * np.exp(correction))


def fit_model(
    rows: TrainingRows,
    roofline: str,
    residual: ModelNames = (),
    theta: tuple[float, ...] = (),
    seed: int = 0,
    share: float = 1.0,
) -> FittedModel:
    """Fit one model to all rows; raises ValueError when `theta` does not suit them."""
    rates, floor_s = fit_roofline(rows.X, rows.y, rows.noise, roofline), float(rows.y.min()) / 10
    base_s, idle_s = np.maximum(roofline_s(rows.X, rates), floor_s), rows.y[~has_work(rows.X)]
    return FittedModel(
        rates,
        floor_s,
        float(np.median(idle_s)) if len(idle_s) else max(float(rates[-1]), floor_s),
        fit_residual_model(residual, rows, base_s, theta, seed, share),
    )


def select_model(
    rows: TrainingRows, seed: int = 0, residual: ModelNames | None = None
) -> tuple[ModelChoice, FittedModel]:
    """Choose among the models by cross-validation over geometries, and fit the best to all rows.

    Rows must have 2 layer geometries or more. Errors of blocks without work, which no model predicts, count
    neither for the choice nor for the intervals. `residual` models are taken without a choice among them.
    """
    scored = rows_to_score(rows.X)
    geometries = group_ids(rows.X)[scored]
    few = len(rows.y) <= _FEW_ROWS
    folds = group_folds(rows.X, seed=seed, folds=_FOLDS_OF_FEW if few else FOLDS)
    kinds = ROOFLINE_KINDS if few else ("stages",)
    roofline_fits = {kind: _fit_folds(rows, folds, kind, (), seed) for kind in kinds}
    roofline_logs = {kind: _held_out_logs(rows, folds, fits)[scored] for kind, fits in roofline_fits.items()}
    roofline = _choose_roofline({kind: _errors(logs) for kind, logs in roofline_logs.items()}, geometries)
    logs: dict[ModelNames, FloatArray] = {(): roofline_logs[roofline]}
    fits: dict[ModelNames, list[FittedModel]] = {(): roofline_fits[roofline]}
    # A roofline with less error than a residual model would have to gain leaves nothing to try.
    tried = candidate_models(len(rows.y)) if _errors(logs[()]).mean() > _MIN_GAIN else ()
    for models in [(name,) for name in tried] if residual is None else [residual]:
        fits[models] = _fit_folds(rows, folds, roofline, models, seed)
        logs[models] = _held_out_logs(rows, folds, fits[models])[scored]
    if residual is None and len(tried) > 1:
        logs[tried] = np.mean([logs[name,] for name in tried], axis=0)
    errors = {
        (models, share): _errors((1 - share) * logs[()] + share * of_models)
        for models, of_models in logs.items()
        for share in (_SHARES if models else (1.0,))
    }
    best, share = residual or (), 1.0
    if residual is None:
        best, share = _simplest_of_the_best(errors, geometries, _RESIDUAL_ERRORS, _FIRST_GAIN)
    fit = fit_model(rows, roofline, best, (), seed, share)
    parts = [fits[best]] if best in fits else [fits[name,] for name in best]
    of_folds = [_combine(of_fold, share) for of_fold in zip(*parts, strict=True)]
    return ModelChoice(
        roofline,
        best,
        share,
        fit.residual.theta,
        tuple((models, float(_errors(of_models).mean())) for models, of_models in logs.items()),
        _log_errors(rows, roofline, fit.residual, seed, of_folds),
    ), fit


def _choose_roofline(errors: dict[str, FloatArray], geometries: IntArray) -> str:
    """Choose a roofline: a quarter of a standard error for one rate more, a whole one for all stages."""
    if "merged" not in errors:
        return "stages"
    few = {kind: errors[kind] for kind in ("merged", "padded")}
    best = _simplest_of_the_best(few, geometries, _RESIDUAL_ERRORS)
    return _simplest_of_the_best(
        {kind: errors[kind] for kind in (best, "stages")}, geometries, _ROOFLINE_ERRORS
    )


def _errors(logs: FloatArray) -> FloatArray:
    """Convert log(predicted / measured) to absolute relative errors."""
    return np.abs(np.expm1(logs))


def _simplest_of_the_best(
    errors: dict[T, FloatArray], geometries: IntArray, standard_errors: float, first_gain: float = 0.0
) -> T:
    """Choose the best model, in order from the simplest, by gains of more than `standard_errors`.

    The first step away from the simplest must also gain a share `first_gain` of its error.
    """
    simplest, *others = errors
    best = simplest
    for kind in others:
        gain, standard_error = clustered_mean(errors[best] - errors[kind], geometries)
        least = first_gain * errors[best].mean() if best == simplest else 0.0
        if gain > max(_MIN_GAIN, standard_errors * standard_error, least):
            best = kind
    return best


def _fit_folds(
    rows: TrainingRows,
    folds: list[Fold],
    roofline: str,
    residual: ModelNames,
    seed: int,
    theta: tuple[float, ...] = (),
    share: float = 1.0,
) -> list[FittedModel]:
    """Fit a model to the training rows of each fold."""
    return [fit_model(rows.select(train), roofline, residual, theta, seed, share) for train, _ in folds]


def _combine(parts: Sequence[FittedModel], share: float) -> FittedModel:
    """Combine the residual models of fits to the same rows: their mean, multiplied by `share`."""
    residuals = [part.residual for part in parts]
    # Their sum in the order of `fit_residual_model`, so that it is the same to the last digit.
    models = tuple(model for residual in reversed(residuals) for model in residual.models)
    names = tuple(name for residual in residuals for name in residual.names)
    return replace(parts[0], residual=replace(residuals[0], names=names, models=models, share=share))


def _held_out_logs(rows: TrainingRows, folds: list[Fold], fits: Sequence[FittedModel]) -> FloatArray:
    """Compute log(predicted / measured) of each row by the model fitted without its fold, (rows,)."""
    logs = np.empty(len(rows.y))
    for (_, test), fit in zip(folds, fits, strict=True):
        logs[test] = np.log(fit.predict_s(rows.X[test]) / rows.y[test])
    return logs


def _log_errors(
    rows: TrainingRows, roofline: str, residual: ResidualModel, seed: int, by_geometry: list[FittedModel]
) -> tuple[tuple[float, ...], ...]:
    """Collect sorted |log errors| by level, of rows held out in three ways.

    `by_geometry` are the models fitted without a fold of geometries each, as the selection made them.
    """
    found: list[list[float]] = [[] for _ in LEVELS]
    scored = np.flatnonzero(rows_to_score(rows.X))
    known = residual.theta if len(rows.y) > MAX_SEARCH_ROWS else ()
    count = _FOLDS_OF_FEW if len(rows.y) <= _FEW_ROWS else FOLDS
    for folds, fits in (
        (random_folds(len(rows.y), seed, count), []),
        (group_folds(rows.X, seed=seed, folds=count), [] if known else by_geometry),
        (channel_folds(rows.X, seed, count), []),
    ):
        if not folds:
            continue
        fits = fits or _fit_folds(rows, folds, roofline, residual.names, seed, known, residual.share)
        logs = _held_out_logs(rows, folds, fits)
        for train, left_out in folds:
            test = np.intersect1d(left_out, scored)
            observed, X = training_range(rows.X[train]), rows.X[test]
            errors = np.abs(logs[test]) / observed.widening(X)
            for level, error in zip(observed.level(X).tolist(), errors.tolist(), strict=True):
                found[level].append(error)
    return tuple(tuple(sorted(errors)) for errors in found)
