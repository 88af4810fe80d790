"""Cross-validated predictions of the estimator and of baseline predictors for held-out rows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.estimators.evaluation.baselines import BASELINES
from jmsnas.estimators.regression.cross_validation import Fold
from jmsnas.estimators.regression.features import TrainingRows
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.progress import Progress, no_progress

COVERAGE = 0.9
MODEL, ROOFLINE, LINE = "estimator", "roofline", "line over MACs"


@dataclass(frozen=True, slots=True)
class HeldOutPredictions:
    """Predictions for the test rows of all folds, concatenated.

    Attributes
    ----------
    rows
        Indices of the test rows; in some splits a row is held out more than once.
    predicted_s
        Seconds by predictor: `estimator`, `roofline` (the estimator's, without the residual model), and those
        of `BASELINES`.
    low_s, high_s
        The estimator's 90 % interval.
    fit_s
        Mean wall time of an estimator fit, model selection included.
    """

    rows: IntArray
    predicted_s: dict[str, FloatArray]
    low_s: FloatArray
    high_s: FloatArray
    fit_s: float


def predict_held_out(
    folds: Sequence[Fold], rows: TrainingRows, seed: int, progress: Progress = no_progress
) -> HeldOutPredictions:
    """Fit to the training rows of each fold and predict its test rows.

    Raises EstimatorError when the training rows of a fold have fewer than two layer geometries.
    """
    predicted_s: dict[str, list[FloatArray]] = {name: [] for name in (MODEL, ROOFLINE, *BASELINES)}
    bounds: list[tuple[FloatArray, FloatArray]] = []
    fit_s = 0.0
    for done, (train, test) in enumerate(folds):
        progress(done, len(folds), "evaluating on held-out blocks")
        start, X_test = time.perf_counter(), rows.X[test]
        known = rows.select(train)
        regressor = LatencyRegressor(seed).fit(known.X, known.y, known.noise)
        fit_s += (time.perf_counter() - start) / len(folds)
        predicted_s[MODEL].append(regressor.predict(X_test))
        predicted_s[ROOFLINE].append(regressor.roofline_s(X_test))
        for name, baseline in BASELINES.items():
            predicted_s[name].append(baseline(known.X, known.y, X_test))
        bounds.append(regressor.predict_interval(X_test, COVERAGE))
    return HeldOutPredictions(
        np.concatenate([test for _, test in folds]),
        {name: np.concatenate(found) for name, found in predicted_s.items()},
        np.concatenate([low_s for low_s, _ in bounds]),
        np.concatenate([high_s for _, high_s in bounds]),
        fit_s,
    )
