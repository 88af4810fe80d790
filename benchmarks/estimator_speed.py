"""Wall time of fitting a latency regressor, and of predicting with each residual model."""

import time
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.estimators.regression.residual_models import MAX_RIDGE_ROWS, candidate_models

FIT_ROWS, MAX_FIT_S, PREDICTED_ROWS, MAX_PREDICT_S = 1500, 60.0, 100_000, 1.0
REPEATS = 5


def speed(name: str, X: FloatArray, y: FloatArray, seed: int = 0) -> dict[str, Any]:
    """Time a fit with model selection to 1,500 rows (or all), and 100,000 predictions by every model.

    Every residual model and the mean of all is timed, and once more with few enough rows for kernel ridge.
    The median of 5 times each; the bar is on the slowest.
    """
    some = np.random.default_rng(seed).permutation(len(y))[:FIT_ROWS]
    start = time.perf_counter()
    chosen = LatencyRegressor(seed).fit(X[some], y[some])
    fit_s = time.perf_counter() - start
    inputs, predict_s = np.resize(X, (PREDICTED_ROWS, X.shape[1])), {}
    for rows in sorted({len(some), min(len(some), MAX_RIDGE_ROWS)}):
        tried = candidate_models(rows)
        for models in dict.fromkeys([(), *((one,) for one in tried), tried]):
            choice = replace(chosen.choice_, residual=models, theta=(), share=1.0)
            regressor = LatencyRegressor(seed).refit(X[some[:rows]], y[some[:rows]], choice)
            predict_s[f"{regressor.name}, {rows} rows"] = _predict_time_s(regressor, inputs)
    slowest = max(predict_s, key=predict_s.__getitem__)
    missed = [] if fit_s <= MAX_FIT_S else [f"fit above {MAX_FIT_S} s"]
    missed += [] if predict_s[slowest] <= MAX_PREDICT_S else [f"prediction above {MAX_PREDICT_S} s"]
    return {
        "table": name,
        "rows": len(some),
        "model": chosen.name,
        "fit_s": fit_s,
        "predict_100000_s": predict_s,
        "slowest": slowest,
        "missed": missed,
    }


def print_speed(timed: dict[str, Any]) -> None:
    """Print the result of `speed`, a line per model."""
    print(
        f"\n{timed['rows']} rows of {timed['table']}: chosen and fitted in {timed['fit_s']:.1f} s "
        f"({timed['model']})"
    )
    for model, seconds in timed["predict_100000_s"].items():
        print(f"  100,000 predictions by {model}: {seconds:.2f} s")
    if timed["missed"]:
        print(f"  MISSED {', '.join(timed['missed'])}")


def _predict_time_s(regressor: LatencyRegressor, X: FloatArray) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        predicted_s = regressor.predict(X)
        times.append(time.perf_counter() - start)
    assert np.isfinite(predicted_s).all() and (predicted_s > 0).all()
    return median(times)
