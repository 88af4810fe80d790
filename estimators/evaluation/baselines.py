"""Simpler predictors that an estimator has to beat: what papers, and people in a hurry, use instead."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jmsnas.estimators.regression.features import GEOMETRY, RESIDUAL, columns

Array = NDArray[np.float64]
# (features seen, their seconds, features unseen) -> seconds.
Baseline = Callable[[Array, Array, Array], Array]

_MACS = ("expand_macs", "depthwise_macs", "project_macs")
_CHOICES = ("log_kernel_size", "log_middle_channels", "log_expansion", "log_groups", "shortcut", "identity")


def line_over_macs(seen: Array, seconds: Array, unseen: Array) -> Array:
    """Ordinary least squares on MACs, with a constant: the proxy of most papers."""
    line, *_ = np.linalg.lstsq(_macs(seen), seconds)
    return np.asarray(_macs(unseen) @ line)


def nearest_block(seen: Array, seconds: Array, unseen: Array) -> Array:
    """Answer with the seconds of the measured block that is most like it, in logarithms of sizes."""
    inputs = columns(RESIDUAL)
    found = make_pipeline(StandardScaler(), KNeighborsRegressor(1)).fit(seen[:, inputs], seconds)
    return np.asarray(found.predict(unseen[:, inputs]))


def plain_forest(seen: Array, seconds: Array, unseen: Array) -> Array:
    """Fit a random forest with default settings to raw hyper-parameters and raw seconds."""
    inputs = columns((*GEOMETRY, *_CHOICES))
    forest = RandomForestRegressor(50, random_state=0).fit(seen[:, inputs], seconds)
    return np.asarray(forest.predict(unseen[:, inputs]))


BASELINES: dict[str, Baseline] = {
    "line over MACs": line_over_macs,
    "nearest block": nearest_block,
    "plain random forest": plain_forest,
}


def _macs(X: Array) -> Array:
    return np.column_stack([X[:, columns(_MACS)].sum(axis=1), np.ones(len(X))])
