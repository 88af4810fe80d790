"""U(.): seconds of a block from its features, always positive, with an interval.

A roofline (non-negative rates, fitted to relative errors) times the exponential of one residual model, chosen
by cross-validation over whole layer geometries. What makes it up:
roofline.py, residual_models.py, model_selection.py for
which, conformal.py for intervals.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from jmsnas.errors import EstimatorError
from jmsnas.estimators.regression.conformal import LEVELS, conformal_margins, half_widths, training_range
from jmsnas.estimators.regression.features import FEATURES, group_ids
from jmsnas.estimators.regression.model_selection import (
    FittedModel,
    ModelChoice,
    TrainingRows,
    fit_model,
    select_model,
)
from jmsnas.estimators.regression.residual_models import MODELS, model_names

Array = NDArray[np.float64]


class LatencyRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Latency of blocks in the manner of scikit-learn: `fit(X, y)`, `predict(X)`.

    Parameters
    ----------
    seed
        Draws the rows that searches look at, folds and trees.
    residual
        `auto` to choose, `none`, or the name of one of `residuals.MODELS`.

    Attributes
    ----------
    choice_
        The `ModelChoice` that was made.
    fit_
        The roofline and the residual model.
    seen_
        What the rows were, for intervals.
    """

    def __init__(self, seed: int = 0, residual: str = "auto") -> None:
        self.seed = seed
        self.residual = residual

    def fit(self, X: Array, y: Array, noise: Array | None = None) -> "LatencyRegressor":
        """Choose by cross-validation over layer geometries, then fit on all rows.

        Parameters
        ----------
        X
            (rows, features) as `features` makes it.
        y
            (rows,) seconds, positive.
        noise
            (rows,) standard deviation of each, as a share of it; None: all are exact.

        Raises
        ------
        EstimatorError
            When the rows are of fewer than two layer geometries, `y` is not positive, `noise` does not suit
            them, or there is no such residual model.
        ValueError
            When there is a number that is not finite, in scikit-learn's words.
        """
        rows = self._rows(X, y, noise)
        if self.residual not in ("auto", "none", *MODELS):
            raise EstimatorError(
                f"got residual {self.residual!r}: expected one of auto, none, {', '.join(MODELS)}"
            )
        geometries = len(set(group_ids(rows.X)))
        if geometries < 2:
            raise EstimatorError(
                f"got {len(rows.y)} rows of {geometries} layer geometry: expected 2 geometries or more, "
                "since a fit is judged on geometries it never saw. Profile more blocks"
            )
        wanted = {"auto": None, "none": ()}.get(self.residual, (self.residual,))
        # Matrices are small: a second BLAS thread only makes the first one wait, twenty times slower.
        with threadpool_limits(1, user_api="blas"):
            return self._keep(rows, *select_model(rows, self.seed, wanted))

    def refit(
        self, X: Array, y: Array, choice: ModelChoice, noise: Array | None = None
    ) -> "LatencyRegressor":
        """Fit on all rows with a choice already made, without any search. Raises EstimatorError."""
        rows = self._rows(X, y, noise)
        try:
            with threadpool_limits(1, user_api="blas"):
                fit = fit_model(rows, choice.roofline, choice.residual, choice.theta, self.seed, choice.share)
        except ValueError as error:
            raise EstimatorError(
                f"the residual model cannot be fitted again: {error}. Run: jmsnas fit-estimator"
            ) from error
        return self._keep(rows, choice, fit)

    def predict(self, X: Array) -> Array:
        """Predict seconds, positive and finite, (rows,)."""
        table = self._table(X)
        return self.fit_.predict_s(table)

    def roofline_s(self, X: Array) -> Array:
        """Seconds by the roofline alone, without the residual, (rows,)."""
        table = self._table(X)
        return self.fit_.roofline_s(table)

    def predict_interval(self, X: Array, coverage: float = 0.9) -> tuple[Array, Array]:
        """Give (low, high) in seconds, each (rows,), that hold a share `coverage` of blocks like each.

        Wider for a layer geometry that was not measured, wider still for channels never seen together, and
        with every doubling outside the table. Raises EstimatorError when `coverage` is not between 0 and 1.
        """
        table = self._table(X)
        predicted_s = self.fit_.predict_s(table)
        factor = np.exp(half_widths(table, self.training_range_, self.margins(coverage)))
        return predicted_s / factor, predicted_s * factor

    def margin(self, coverage: float = 0.9, level: str = "new geometry") -> float:
        """Give the |log error| that a share `coverage` of rows of one of `LEVELS` stays within."""
        return float(self.margins(coverage)[LEVELS.index(level)])

    def margins(self, coverage: float = 0.9) -> Array:
        """Give that of each of `LEVELS`, (levels,). Raises EstimatorError when `coverage` is not one."""
        return conformal_margins(self.choice_.log_errors, coverage)

    def extrapolated(self, X: Array) -> NDArray[np.bool_]:
        """Say which rows are beyond the sizes, or of a kind, that were fitted, (rows,)."""
        table = self._table(X)
        return np.asarray(self.training_range_.doublings(table) > 0)

    @property
    def name(self) -> str:
        """Which model was chosen, for people."""
        models = self.choice_.residual
        return f"roofline + {model_names(models)}" if models else "roofline"

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn that latencies are positive."""
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags

    def _rows(self, X: Array, y: Array, noise: Array | None) -> TrainingRows:
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        if not (y > 0).all():
            raise EstimatorError("got a latency that is not above 0 s: check the table's rows")
        known = None if noise is None else np.asarray(noise, dtype=float)
        if known is not None and not (known.shape == y.shape and (known >= 0).all()):
            raise EstimatorError(f"got noise of shape {known.shape}: expected {y.shape}, 0 or more each")
        return TrainingRows(self._features(X), y, known)

    def _table(self, X: Array) -> Array:
        check_is_fitted(self)
        found = validate_data(self, X, dtype=np.float64, reset=False, ensure_min_samples=0)
        return self._features(found)

    def _features(self, X: Array) -> Array:
        if X.shape[1] != len(FEATURES):
            raise EstimatorError(
                f"got features of shape {X.shape}: expected (rows, {len(FEATURES)}) as features(blocks) "
                "makes them"
            )
        return X

    def _keep(self, rows: TrainingRows, choice: ModelChoice, fit: FittedModel) -> "LatencyRegressor":
        self.choice_, self.fit_, self.training_range_ = choice, fit, training_range(rows.X)
        return self
