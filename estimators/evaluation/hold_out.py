"""What the estimator and simpler predictors say of rows that were held out of their fits."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.estimators.evaluation.baselines import BASELINES
from jmsnas.estimators.regression.cross_validation import Fold
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.progress import Progress

Array = NDArray[np.float64]

COVERAGE = 0.9
MODEL, ROOFLINE, LINE = "estimator", "roofline", "line over MACs"


@dataclass(frozen=True, slots=True)
class HeldOutPredictions:
    """Rows as they were held out, fold after fold, and what was said of them.

    Attributes
    ----------
    rows
        Numbers of the rows; in some splits a row is held out more than once.
    said_s
        Seconds by predictor: `estimator`, `roofline` (the estimator's own, without the residual), and those
        of `BASELINES`.
    low_s, high_s
        The estimator's 90 % interval.
    fit_s
        Mean seconds of a fit of the estimator, the choice of the model among them.
    """

    rows: NDArray[np.int64]
    predicted_s: dict[str, Array]
    low_s: Array
    high_s: Array
    fit_s: float


def predict_held_out(
    folds: Sequence[Fold], X: Array, measured_s: Array, seed: int, noise: Array | None, progress: Progress
) -> HeldOutPredictions:
    """Fit to the seen rows of each fold and predict the unseen ones.

    Raises
    ------
    EstimatorError
        When the seen rows of a fold are of fewer than two layer geometries.
    """
    predicted_s: dict[str, list[Array]] = {name: [] for name in (MODEL, ROOFLINE, *BASELINES)}
    bounds: list[tuple[Array, Array]] = []
    fit_s = 0.0
    for done, (seen, unseen) in enumerate(folds):
        progress(done, len(folds), "judging on blocks held out")
        start = time.perf_counter()
        known = None if noise is None else noise[seen]
        regressor = LatencyRegressor(seed).fit(X[seen], measured_s[seen], known)
        fit_s += (time.perf_counter() - start) / len(folds)
        predicted_s[MODEL].append(regressor.predict(X[unseen]))
        predicted_s[ROOFLINE].append(regressor.roofline_s(X[unseen]))
        for name, baseline in BASELINES.items():
            predicted_s[name].append(baseline(X[seen], measured_s[seen], X[unseen]))
        bounds.append(regressor.predict_interval(X[unseen], COVERAGE))
    return HeldOutPredictions(
        np.concatenate([unseen for _, unseen in folds]),
        {name: np.concatenate(found) for name, found in predicted_s.items()},
        np.concatenate([low_s for low_s, _ in bounds]),
        np.concatenate([high_s for _, high_s in bounds]),
        fit_s,
    )
