"""Latency regressor U(.) in the scikit-learn API: positive seconds of blocks, with prediction intervals.

A roofline (`roofline`: non-negative rates, fitted to relative errors) times the exponential of a residual
model (`residual_models`), chosen by cross-validation over whole layer geometries (`model_selection`), with
conformal intervals (`conformal`).
"""

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from jmsnas.arrays import BoolArray, FloatArray
from jmsnas.errors import EstimatorError
from jmsnas.estimators.regression.conformal import LEVELS, conformal_margins, half_widths, training_range
from jmsnas.estimators.regression.features import FEATURES, TrainingRows, group_ids
from jmsnas.estimators.regression.model_selection import FittedModel, ModelChoice, fit_model, select_model
from jmsnas.estimators.regression.residual_models import MODELS, model_names


class LatencyRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Regressor of block latency with the scikit-learn API: `fit(X, y)`, `predict(X)`.

    Parameters
    ----------
    seed
        Seed of hyper-parameter search, folds and trees.
    residual
        `auto` to choose, `none`, or one of the keys of `residual_models.MODELS`.

    Attributes
    ----------
    choice_
        The `ModelChoice` of the fit.
    fit_
        The fitted roofline and residual model.
    training_range_
        The `TrainingRange` of the rows, for intervals.

    Examples
    --------
    >>> from jmsnas.estimators.regression.features import features
    >>> from jmsnas.space_file import load_space
    >>> X = features(load_space("digits").blocks()[::5])
    >>> y = 1e-5 + 1e-9 * X.sum(axis=1)
    >>> regressor = LatencyRegressor(residual="none").fit(X, y)
    >>> regressor.name, regressor.predict(X).shape
    ('roofline', (11,))
    """

    def __init__(self, seed: int = 0, residual: str = "auto") -> None:
        self.seed = seed
        self.residual = residual

    def fit(self, X: FloatArray, y: FloatArray, noise: FloatArray | None = None) -> "LatencyRegressor":
        """Choose by cross-validation over layer geometries, then fit on all rows.

        Raises EstimatorError when the rows have fewer than two layer geometries, `y` is not positive, `noise`
        has another shape or is negative, or `residual` is unknown; ValueError when a number is not finite
        (raised by scikit-learn).

        Parameters
        ----------
        X, y
            Features of the rows, as `features` makes them, and positive seconds, (rows,).
        noise
            (rows,) relative standard deviation of y; None: all are exact.
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
                "since models are selected by their errors on held-out geometries. Profile more blocks"
            )
        wanted = {"auto": None, "none": ()}.get(self.residual, (self.residual,))
        # Matrices are small: with a second BLAS thread a fit takes twenty times as long.
        with threadpool_limits(1, user_api="blas"):
            return self._keep(rows, *select_model(rows, self.seed, wanted))

    def refit(
        self, X: FloatArray, y: FloatArray, choice: ModelChoice, noise: FloatArray | None = None
    ) -> "LatencyRegressor":
        """Fit on all rows with a given choice, without a search; raises EstimatorError."""
        rows = self._rows(X, y, noise)
        try:
            with threadpool_limits(1, user_api="blas"):
                fit = fit_model(rows, choice.roofline, choice.residual, choice.theta, self.seed, choice.share)
        except ValueError as error:
            raise EstimatorError(
                f"the residual model cannot be fitted again: {error}. Run: jmsnas fit-estimator"
            ) from error
        return self._keep(rows, choice, fit)

    def predict(self, X: FloatArray) -> FloatArray:
        """Predict seconds, positive and finite, (rows,)."""
        X = self._validated(X)
        return self.fit_.predict_s(X)

    def roofline_s(self, X: FloatArray) -> FloatArray:
        """Predict seconds by the roofline alone, without the residual model, (rows,)."""
        X = self._validated(X)
        return self.fit_.roofline_s(X)

    def predict_interval(self, X: FloatArray, coverage: float = 0.9) -> tuple[FloatArray, FloatArray]:
        """Predict the interval (low, high) in seconds, each (rows,), with a given coverage.

        Wider for a layer geometry that was not measured, wider still for a new pair of channels, and with
        every doubling outside the training range. Raises EstimatorError unless 0 < coverage < 1.
        """
        X = self._validated(X)
        predicted_s = self.fit_.predict_s(X)
        factor = np.exp(half_widths(X, self.training_range_, self.margins(coverage)))
        return predicted_s / factor, predicted_s * factor

    def margin(self, coverage: float = 0.9, level: str = "new geometry") -> float:
        """Return the half-width, in log seconds, of intervals of a given coverage at one of `LEVELS`."""
        return float(self.margins(coverage)[LEVELS.index(level)])

    def margins(self, coverage: float = 0.9) -> FloatArray:
        """Return the half-widths of all `LEVELS`, (levels,); raises EstimatorError for a bad coverage."""
        return conformal_margins(self.choice_.log_errors, coverage)

    def extrapolated(self, X: FloatArray) -> BoolArray:
        """Mark the rows outside the training range of sizes, flags or MACs, (rows,)."""
        X = self._validated(X)
        return np.asarray(self.training_range_.doublings(X) > 0)

    @property
    def name(self) -> str:
        """Name of the chosen model, for printing: `roofline + Gaussian process`."""
        models = self.choice_.residual
        return f"roofline + {model_names(models)}" if models else "roofline"

    def __sklearn_tags__(self) -> Tags:
        """Return scikit-learn's tags: targets are positive."""
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags

    def _rows(self, X: FloatArray, y: FloatArray, noise: FloatArray | None) -> TrainingRows:
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        if not (y > 0).all():
            raise EstimatorError("got a latency that is not above 0 s: check the table's rows")
        known = None if noise is None else np.asarray(noise, dtype=float)
        if known is not None and not (known.shape == y.shape and (known >= 0).all()):
            raise EstimatorError(f"got noise of shape {known.shape}: expected {y.shape}, 0 or more each")
        return TrainingRows(self._features(X), y, known)

    def _validated(self, X: FloatArray) -> FloatArray:
        check_is_fitted(self)
        found = validate_data(self, X, dtype=np.float64, reset=False, ensure_min_samples=0)
        return self._features(found)

    def _features(self, X: FloatArray) -> FloatArray:
        if X.shape[1] != len(FEATURES):
            raise EstimatorError(
                f"got features of shape {X.shape}: expected (rows, {len(FEATURES)}) as features(blocks) "
                "makes them"
            )
        return X

    def _keep(self, rows: TrainingRows, choice: ModelChoice, fit: FittedModel) -> "LatencyRegressor":
        self.choice_, self.fit_, self.training_range_ = choice, fit, training_range(rows.X)
        return self
