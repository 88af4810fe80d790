"""Residual models of log(measured / roofline): kernel ridge, boosted trees, Gaussian process, their mean.

Inputs are the logarithms of geometry and of the roofline's own prediction (the smaller a block, the further
it stays below a processor's rates). The mean of several models has smaller errors than each alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn import config_context
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.kernel_ridge import KernelRidge

from jmsnas.arrays import FloatArray
from jmsnas.estimators.regression.features import RESIDUAL, TrainingRows, columns
from jmsnas.estimators.regression.gaussian_process import fit_gaussian_process, search_theta

Model = Callable[[FloatArray], FloatArray]

# From the simplest to the most complex: where two are equally good the first is taken. Values are printed.
MODELS = {"kernel_ridge": "kernel ridge", "boosting": "boosted trees", "gaussian_process": "Gaussian process"}
# Fewer rows than parameters to fit below this; trees need more.
MIN_ROWS, MIN_TREE_ROWS = 10, 40
# The ridge has one length scale for all inputs: with more rows it is slow, and worse than one for each.
MAX_RIDGE_ROWS = 250
# Error of a residual model itself, as a share: rows with more noise than this weigh less.
_MODEL_ERROR = 0.05
# Rows predicted at once, to bound the memory of the kernel (these rows x fitted rows).
_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class ResidualModel:
    """A fitted residual model.

    Attributes
    ----------
    names, share
        Keys of `MODELS`, and the factor that their mean is multiplied by (shrinkage).
    theta
        Hyper-parameters of the Gaussian process (`search_theta`), empty where there is none.
    mean, scale
        Standardisation of the inputs, (inputs,).
    offset, unit
        Standardisation of the target.
    lowest, highest
        Range of the target in the training rows: corrections are clipped to it.
    models
        Functions of standardised inputs.
    """

    names: tuple[str, ...]
    share: float
    theta: tuple[float, ...]
    mean: FloatArray
    scale: FloatArray
    offset: float
    unit: float
    lowest: float
    highest: float
    models: tuple[Model, ...]

    def correction(self, X: FloatArray, roofline_s: FloatArray) -> FloatArray:
        """Predict log(seconds / roofline), (rows,), clipped to the range of the training rows."""
        if not self.models or not len(X):
            return np.zeros(len(X))
        Z = (_inputs(X, roofline_s) - self.mean) / self.scale
        parts = np.array_split(Z, math.ceil(len(Z) / _CHUNK))
        mean = np.concatenate([np.mean([model(part) for model in self.models], axis=0) for part in parts])
        return np.asarray(self.share * np.clip(mean * self.unit + self.offset, self.lowest, self.highest))


def candidate_models(rows: int) -> tuple[str, ...]:
    """Return the keys of `MODELS` that suit a number of training rows."""
    if rows < MIN_ROWS:
        return ()
    unsuited = ("boosting",) if rows < MIN_TREE_ROWS else ("kernel_ridge",) if rows > MAX_RIDGE_ROWS else ()
    return tuple(name for name in MODELS if name not in unsuited)


def model_names(names: Sequence[str]) -> str:
    """Format the names of one model, or of the mean of several, for printing."""
    *others, last = (MODELS[name] for name in names)
    return f"mean of {', '.join(others)} and {last}" if others else last


def fit_residual_model(
    names: Sequence[str],
    rows: TrainingRows,
    roofline_s: FloatArray,
    theta: tuple[float, ...] = (),
    seed: int = 0,
    share: float = 1.0,
) -> ResidualModel:
    """Fit zero or more residual models to the ratio of measured and roofline latency.

    `names`, `theta` and `share` are as in `ResidualModel`; an empty `theta` is searched for. `roofline_s` are
    the seconds of the rows by the roofline, (rows,); `seed` is that of the rows that the search uses, and of
    the trees' subsamples. Raises ValueError when `theta` does not suit the rows.
    """
    logs, inputs = np.log(rows.y / roofline_s), _inputs(rows.X, roofline_s)
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0)
    # Rounding leaves a spread of 1e-16 where all rows are equal.
    scale = np.where(spread > 1e-9, spread, 1.0)
    offset, unit = float(logs.mean()), float(logs.std()) or 1.0
    Z, z = (inputs - mean) / scale, (logs - offset) / unit
    noise = np.zeros(len(rows.y)) if rows.noise is None else rows.noise
    models: list[Model] = []
    if "gaussian_process" in names:
        variance = (noise / unit) ** 2
        if not theta:
            theta = tuple(search_theta(Z, z, variance, seed).tolist())
        models.append(fit_gaussian_process(Z, z, variance, np.array(theta)).predict)
    weights = 1 / (1 + (noise / _MODEL_ERROR) ** 2)
    if "boosting" in names:
        # Shallow trees, each fitted to a subsample of the rows and inputs.
        trees = GradientBoostingRegressor(
            n_estimators=120,
            learning_rate=0.15,
            max_depth=4,
            subsample=0.7,
            max_features=0.5,
            random_state=seed,
        )
        with config_context(skip_parameter_validation=True):  # of each tree, a fifth of the time
            models.append(trees.fit(Z, z, weights).predict)
    if "kernel_ridge" in names:
        ridge = KernelRidge(alpha=0.1, kernel="laplacian", gamma=1 / Z.shape[1])
        models.append(ridge.fit(Z, z, weights).predict)
    return ResidualModel(
        names=tuple(names),
        share=share,
        theta=theta,
        mean=mean,
        scale=scale,
        offset=offset,
        unit=unit,
        lowest=float(logs.min()),
        highest=float(logs.max()),
        models=tuple(models),
    )


def _inputs(X: FloatArray, roofline_s: FloatArray) -> FloatArray:
    return np.column_stack([X[:, columns(RESIDUAL)], np.log(roofline_s)])
