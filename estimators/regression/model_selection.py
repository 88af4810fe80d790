"""Which model suits a table: tried on whole layer geometries left out, the simplest of equals taken.

Never on rows left out at random: their neighbours of the same geometry would tell the answer, and a model
that remembers would win over one that understands.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from jmsnas.estimators.regression.conformal import LEVELS, training_range
from jmsnas.estimators.regression.cross_validation import (
    FOLDS,
    Fold,
    channel_folds,
    group_folds,
    random_folds,
)
from jmsnas.estimators.regression.features import group_ids
from jmsnas.estimators.regression.gaussian_process import MAX_SEARCH_ROWS
from jmsnas.estimators.regression.residual_models import ResidualModel, candidate_models, fit_residual_model
from jmsnas.estimators.regression.roofline import (
    ROOFLINE_KINDS,
    fit_roofline,
    has_work,
    roofline_s,
    rows_to_score,
)

Array = NDArray[np.float64]
T = TypeVar("T")
ModelNames = tuple[str, ...]

# A less simple model must earn its keep: by a thousandth of latency, and by some of its gain's own doubt; the
# first to be more than a roofline by a part of the roofline's error too, or noise would be modelled.
_MIN_GAIN, _ROOFLINE_DOUBTS, _RESIDUAL_DOUBTS, _FIRST_GAIN = 1e-3, 1.0, 0.25, 0.05
# How much of what residual models say is believed: of those that know little, a part.
_SHARES = (0.5, 1.0)
# Few rows are of few geometries: with more folds what is left resembles the whole. With more rows a rate for
# each stage is never worse than one for all.
_FEW_ROWS, _FOLDS_OF_FEW = 200, 10


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What cross-validation chose, so that a fit of the same rows needs no search.

    Attributes
    ----------
    roofline
        One of `ROOFLINE_KINDS`.
    residual, share
        Of `residuals.MODELS`, none of them for the roofline alone, and how much of their mean is believed.
    theta
        Hyper-parameters of the Gaussian process (`gaussian.search_theta`); empty without one.
    mapes
        (models that were tried, mean absolute relative error on geometries they had not seen), the simplest
        first: the roofline alone.
    log_errors
        For each of `doubt.LEVELS`, sorted |log(measured / predicted)| of rows left out, over what the
        interval widens there.
    """

    roofline: str
    residual: ModelNames
    share: float
    theta: tuple[float, ...]
    mapes: tuple[tuple[ModelNames, float], ...]
    log_errors: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A roofline and the residual on top of it.

    `rates` are seconds per unit of `ROOFLINE`, then the constant; no roofline answers less than `floor_s`, a
    tenth of the fastest row. A block that does no work takes `idle_s`, whatever its sizes: the median of
    those that were measured, else the constant.
    """

    rates: Array
    floor_s: float
    idle_s: float
    residual: ResidualModel

    def roofline_s(self, X: Array) -> Array:
        """Seconds by the roofline alone, (rows,)."""
        busy_s = np.maximum(roofline_s(X, self.rates), self.floor_s)
        return np.where(has_work(X), busy_s, self.idle_s)

    def predict_s(self, X: Array) -> Array:
        """Seconds, (rows,)."""
        base_s = self.roofline_s(X)
        correction = np.where(has_work(X), self.residual.correction(X, base_s), 0.0)
        return np.asarray(base_s * np.exp(correction))


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """What is fitted to: features (rows, features), seconds (rows,), noise as a share of them or None."""

    X: Array
    y: Array
    noise: Array | None

    def part(self, some: NDArray[np.int64]) -> "TrainingRows":
        """Some of the rows."""
        return TrainingRows(self.X[some], self.y[some], None if self.noise is None else self.noise[some])


def fit_model(
    rows: TrainingRows,
    roofline: str,
    residual: ModelNames = (),
    theta: tuple[float, ...] = (),
    seed: int = 0,
    share: float = 1.0,
) -> FittedModel:
    """Fit one model to all rows. Raises ValueError when `theta` does not suit them."""
    rates, floor_s = fit_roofline(rows.X, rows.y, rows.noise, roofline), float(rows.y.min()) / 10
    base_s, idle_s = np.maximum(roofline_s(rows.X, rates), floor_s), rows.y[~has_work(rows.X)]
    return FittedModel(
        rates,
        floor_s,
        float(np.median(idle_s)) if len(idle_s) else max(float(rates[-1]), floor_s),
        fit_residual_model(residual, rows.X, base_s, rows.y, rows.noise, theta, seed, share),
    )


def select_model(
    rows: TrainingRows, seed: int = 0, residual: ModelNames | None = None
) -> tuple[ModelChoice, FittedModel]:
    """Try the models on geometries left out, and fit the best to all rows.

    Rows must be of 2 layer geometries or more. `residual` names the residual models to take, if not the best.
    Errors of blocks that do no work, which no model answers, count neither here nor for intervals.
    """
    busy = rows_to_score(rows.X)
    geometries = group_ids(rows.X)[busy]
    few = len(rows.y) <= _FEW_ROWS
    folds = group_folds(rows.X, seed=seed, folds=_FOLDS_OF_FEW if few else FOLDS)
    rooflines = ROOFLINE_KINDS if few else ("stages",)
    alone = {kind: _left_out(rows, folds, kind, (), seed)[busy] for kind in rooflines}
    tried_alone = {kind: _errors(logs) for kind, logs in alone.items()}
    roofline = _roofline(tried_alone, geometries)
    logs: dict[ModelNames, Array] = {(): alone[roofline]}
    # Where less is left than a residual model must gain there is nothing to try.
    tried = candidate_models(len(rows.y)) if _errors(logs[()]).mean() > _MIN_GAIN else ()
    for models in [(name,) for name in tried] if residual is None else [residual]:
        logs[models] = _left_out(rows, folds, roofline, models, seed)[busy]
    if residual is None and len(tried) > 1:
        logs[tried] = np.mean([logs[name,] for name in tried], axis=0)
    errors = {
        (models, share): _errors((1 - share) * logs[()] + share * said)
        for models, said in logs.items()
        for share in (_SHARES if models else (1.0,))
    }
    best, share = residual or (), 1.0
    if residual is None:
        best, share = _simplest_of_the_best(errors, geometries, _RESIDUAL_DOUBTS, _FIRST_GAIN)
    fit = fit_model(rows, roofline, best, (), seed, share)
    return ModelChoice(
        roofline,
        best,
        share,
        fit.residual.theta,
        tuple((models, float(_errors(said).mean())) for models, said in logs.items()),
        _log_errors(rows, roofline, fit.residual, seed),
    ), fit


def _roofline(errors: dict[str, Array], geometries: NDArray[np.int64]) -> str:
    """Choose a roofline: one rate more is soon believed, a rate for each stage only beyond doubt."""
    if "merged" not in errors:
        return "stages"
    few = {kind: errors[kind] for kind in ("merged", "padded")}
    best = _simplest_of_the_best(few, geometries, _RESIDUAL_DOUBTS)
    return _simplest_of_the_best(
        {kind: errors[kind] for kind in (best, "stages")}, geometries, _ROOFLINE_DOUBTS
    )


def _errors(logs: Array) -> Array:
    """Absolute relative errors of logarithms of predicted / measured."""
    return np.abs(np.expm1(logs))


def _simplest_of_the_best(
    errors: dict[T, Array], geometries: NDArray[np.int64], doubts: float, first_gain: float = 0.0
) -> T:
    """Walk from the simplest on; a gain counts where it is more than `doubts` of its standard errors.

    The first step, away from the simplest, must gain a share `first_gain` of its error too.
    """
    simplest, *others = errors
    best = simplest
    for kind in others:
        gain = errors[best] - errors[kind]
        # Rows of one geometry go wrong together: their sums, not they, are the independent draws.
        sums = np.bincount(geometries, gain - gain.mean())
        doubt = float(np.sqrt((sums**2).sum())) / len(gain)
        least = first_gain * errors[best].mean() if best == simplest else 0.0
        if gain.mean() > max(_MIN_GAIN, doubts * doubt, least):
            best = kind
    return best


def _left_out(
    rows: TrainingRows,
    folds: list[Fold],
    roofline: str,
    residual: ModelNames,
    seed: int,
    theta: tuple[float, ...] = (),
    share: float = 1.0,
) -> Array:
    """Logarithm of predicted / measured of each row, by a model fitted without its fold, (rows,)."""
    logs = np.empty(len(rows.y))
    for seen, unseen in folds:
        fit = fit_model(rows.part(seen), roofline, residual, theta, seed, share)
        logs[unseen] = np.log(fit.predict_s(rows.X[unseen]) / rows.y[unseen])
    return logs


def _log_errors(
    rows: TrainingRows, roofline: str, residual: ResidualModel, seed: int
) -> tuple[tuple[float, ...], ...]:
    """Sort |log errors| of rows left out in three ways into the levels they were then at."""
    found: list[list[float]] = [[] for _ in LEVELS]
    busy = np.flatnonzero(rows_to_score(rows.X))
    known = residual.theta if len(rows.y) > MAX_SEARCH_ROWS else ()
    count = _FOLDS_OF_FEW if len(rows.y) <= _FEW_ROWS else FOLDS
    for folds in (
        random_folds(len(rows.y), seed, count),
        group_folds(rows.X, seed=seed, folds=count),
        channel_folds(rows.X, seed, count),
    ):
        if not folds:
            continue
        logs = _left_out(rows, folds, roofline, residual.names, seed, known, residual.share)
        for fold_seen, left_out in folds:
            unseen = np.intersect1d(left_out, busy)
            seen, X = training_range(rows.X[fold_seen]), rows.X[unseen]
            errors = np.abs(logs[unseen]) / seen.widening(X)
            for level, error in zip(seen.level(X).tolist(), errors.tolist(), strict=True):
                found[level].append(error)
    return tuple(tuple(sorted(errors)) for errors in found)
