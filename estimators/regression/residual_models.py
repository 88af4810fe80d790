"""What a roofline leaves: models of log(measured / roofline) that a fit may choose from.

Each learns from the logarithms of geometry and of the roofline's own answer (small blocks fall short of a
processor's rates by how small they are). Several together answer with their mean: they are wrong in
different places.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.kernel_ridge import KernelRidge

from jmsnas.estimators.regression.features import RESIDUAL, columns
from jmsnas.estimators.regression.gaussian_process import fit_gaussian_process, search_theta

Array = NDArray[np.float64]
Model = Callable[[Array], Array]

# From the simplest to the least simple; where two do equally well the first is taken. Names for people.
MODELS = {
    "kernel_ridge": "kernel ridge",
    "boosting": "boosted trees",
    "gaussian_process": "Gaussian process",
}
# Below this a residual model has less to learn from than it has to learn; trees ask for more.
MIN_ROWS, MIN_TREE_ROWS = 10, 40
# The ridge has one length scale for all inputs: no match for one each where rows can tell, and slow.
MAX_RIDGE_ROWS = 250
# How much a row is off by its own kind, as a share: a row known worse than that counts less.
_OWN_ERROR = 0.05
# Rows at once: a kernel holds a number for each of them and each row that was fitted.
_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class ResidualModel:
    """A fitted residual model.

    Attributes
    ----------
    names, share
        Of `MODELS`, and how much of their mean is believed.
    theta
        Hyper-parameters of the Gaussian process (`gaussian.search_theta`), empty where there is none.
    mean, scale
        How the inputs were standardised, (inputs,).
    offset, unit
        How the target was.
    lowest, highest
        Least and largest correction that was seen: beyond them is extrapolation.
    models
        As functions of standardised inputs.
    """

    names: tuple[str, ...]
    share: float
    theta: tuple[float, ...]
    mean: Array
    scale: Array
    offset: float
    unit: float
    lowest: float
    highest: float
    models: tuple[Model, ...]

    def correction(self, X: Array, roofline_s: Array) -> Array:
        """Give log(seconds / roofline), (rows,), never beyond what was seen."""
        if not self.models or not len(X):
            return np.zeros(len(X))
        Z = (_inputs(X, roofline_s) - self.mean) / self.scale
        parts = np.array_split(Z, math.ceil(len(Z) / _CHUNK))
        mean = np.concatenate([np.mean([model(part) for model in self.models], axis=0) for part in parts])
        return np.asarray(self.share * np.clip(mean * self.unit + self.offset, self.lowest, self.highest))


def candidate_models(rows: int) -> tuple[str, ...]:
    """Name the models that are worth a try on so many rows."""
    if rows < MIN_ROWS:
        return ()
    wrong = ("boosting",) if rows < MIN_TREE_ROWS else ("kernel_ridge",) if rows > MAX_RIDGE_ROWS else ()
    return tuple(name for name in MODELS if name not in wrong)


def model_names(names: Sequence[str]) -> str:
    """Name one model, or the mean of several, for people."""
    *others, last = (MODELS[name] for name in names)
    return f"mean of {', '.join(others)} and {last}" if others else last


def fit_residual_model(
    names: Sequence[str],
    X: Array,
    roofline_s: Array,
    y: Array,
    noise: Array | None = None,
    theta: tuple[float, ...] = (),
    seed: int = 0,
    share: float = 1.0,
) -> ResidualModel:
    """Fit residual models, one or several or none.

    Parameters
    ----------
    names, share
        Of `MODELS`, and how much of their mean is believed.
    X, roofline_s, y
        Features (rows, features), the roofline's seconds and the measured ones, each (rows,).
    noise
        (rows,) standard deviation of each row as a share of it; None: all are exact.
    theta
        Hyper-parameters of the Gaussian process when they are known, else they are searched.
    seed
        Draws the rows that a search looks at, and what each tree sees.

    Raises
    ------
    ValueError
        When `theta` does not suit the rows.
    """
    logs, inputs = np.log(y / roofline_s), _inputs(X, roofline_s)
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0)
    # Rounding leaves a spread of 1e-16 where all rows are alike.
    scale = np.where(spread > 1e-9, spread, 1.0)
    offset, unit = float(logs.mean()), float(logs.std()) or 1.0
    Z, z = (inputs - mean) / scale, (logs - offset) / unit
    known = np.zeros(len(y)) if noise is None else noise
    models: list[Model] = []
    if "gaussian_process" in names:
        variance = (known / unit) ** 2
        if not theta:
            theta = tuple(search_theta(Z, z, variance, seed).tolist())
        models.append(fit_gaussian_process(Z, z, variance, np.array(theta)).predict)
    say = 1 / (1 + (known / _OWN_ERROR) ** 2)
    if "boosting" in names:
        models.append(_trees(seed).fit(Z, z, say).predict)
    if "kernel_ridge" in names:
        ridge = KernelRidge(alpha=0.1, kernel="laplacian", gamma=1 / Z.shape[1])
        models.append(ridge.fit(Z, z, say).predict)
    lowest, highest = float(logs.min()), float(logs.max())
    return ResidualModel(
        tuple(names), share, theta, mean, scale, offset, unit, lowest, highest, tuple(models)
    )


def _trees(seed: int) -> GradientBoostingRegressor:
    """Make gradient boosting of shallow trees, each on part of the rows and of the inputs."""
    return GradientBoostingRegressor(
        n_estimators=120,
        learning_rate=0.15,
        max_depth=4,
        subsample=0.7,
        max_features=0.5,
        random_state=seed,
    )


def _inputs(X: Array, roofline_s: Array) -> Array:
    return np.column_stack([X[:, columns(RESIDUAL)], np.log(roofline_s)])
