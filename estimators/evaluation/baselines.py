"""Baseline latency predictors: a line over MACs, the nearest measured block, a default random forest."""

from collections.abc import Callable

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jmsnas.arrays import FloatArray
from jmsnas.estimators.regression.features import GEOMETRY, RESIDUAL, columns

# (training features, training seconds, test features) -> predicted seconds.
Baseline = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]

_MACS = ("expand_macs", "depthwise_macs", "project_macs")
_CHOICES = ("log_kernel_size", "log_middle_channels", "log_expansion", "log_groups", "shortcut", "identity")


def line_over_macs(X: FloatArray, y: FloatArray, X_test: FloatArray) -> FloatArray:
    """Predict by ordinary least squares on MACs with a constant, the usual proxy for latency."""
    line, *_ = np.linalg.lstsq(_macs(X), y)
    return np.asarray(_macs(X_test) @ line)


def nearest_block(X: FloatArray, y: FloatArray, X_test: FloatArray) -> FloatArray:
    """Predict the seconds of the nearest training block in logarithms of sizes."""
    inputs = columns(RESIDUAL)
    found = make_pipeline(StandardScaler(), KNeighborsRegressor(1)).fit(X[:, inputs], y)
    return np.asarray(found.predict(X_test[:, inputs]))


def plain_forest(X: FloatArray, y: FloatArray, X_test: FloatArray) -> FloatArray:
    """Predict by a random forest with default settings on raw hyper-parameters and raw seconds."""
    inputs = columns((*GEOMETRY, *_CHOICES))
    forest = RandomForestRegressor(50, random_state=0).fit(X[:, inputs], y)
    return np.asarray(forest.predict(X_test[:, inputs]))


BASELINES: dict[str, Baseline] = {
    "line over MACs": line_over_macs,
    "nearest block": nearest_block,
    "plain random forest": plain_forest,
}


def _macs(X: FloatArray) -> FloatArray:
    return np.column_stack([X[:, columns(_MACS)].sum(axis=1), np.ones(len(X))])
