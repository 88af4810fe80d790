import numpy as np
import pytest
from synthetic_latencies import noisy_s, table

from jmsnas.errors import EstimatorError
from jmsnas.estimators.evaluation.baselines import BASELINES
from jmsnas.estimators.evaluation.hold_out import MODEL, ROOFLINE, predict_held_out
from jmsnas.estimators.regression.cross_validation import group_folds
from jmsnas.estimators.regression.features import TrainingRows
from jmsnas.estimators.regression.regressor import LatencyRegressor

X = table()[::3]
Y = noisy_s(X, 0.05)
ROWS = TrainingRows(X, Y)


def test_rows_are_predicted_by_fits_that_never_saw_them() -> None:
    folds = group_folds(X)[:2]
    found = predict_held_out(folds, ROWS, 0)
    assert found.rows.tolist() == [*folds[0][1], *folds[1][1]]
    assert set(found.predicted_s) == {MODEL, ROOFLINE, *BASELINES}
    seen, unseen = folds[0]
    alone = LatencyRegressor().fit(X[seen], Y[seen])
    first = slice(0, len(unseen))
    assert found.predicted_s[MODEL][first].tolist() == alone.predict(X[unseen]).tolist()
    assert found.predicted_s[ROOFLINE][first].tolist() == alone.roofline_s(X[unseen]).tolist()
    low_s, high_s = alone.predict_interval(X[unseen])
    assert (found.low_s[first] == low_s).all() and (found.high_s[first] == high_s).all()
    assert 0 < found.fit_s < 60


def test_noise_weighs_where_models_are_fitted() -> None:
    folds = group_folds(X)[:1]
    noise = np.where(np.arange(len(X)) % 2, 0.5, 0.0)
    weighted, unweighted = (
        predict_held_out(folds, TrainingRows(X, Y, known), 0).predicted_s for known in (noise, None)
    )
    assert (weighted[ROOFLINE] != unweighted[ROOFLINE]).any()
    assert (weighted["line over MACs"] == unweighted["line over MACs"]).all()


def test_progress_is_reported() -> None:
    messages: list[tuple[float, float]] = []
    predict_held_out(group_folds(X)[:2], ROWS, 0, lambda done, total, what: messages.append((done, total)))
    assert messages == [(0, 2), (1, 2)]


def test_a_fold_of_one_geometry_is_refused() -> None:
    with pytest.raises(EstimatorError, match="got 3 rows of 1 layer geometry: expected 2 geometries or more"):
        predict_held_out([(np.arange(3), np.arange(3, 6))], ROWS, 0)
