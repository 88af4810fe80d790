import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
from block_strategies import any_block
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from synthetic_latencies import BLOCKS, bent, bent_s, exact_s, noisy_s, table

from jmsnas.arrays import FloatArray
from jmsnas.errors import EstimatorError
from jmsnas.estimators.regression.features import FEATURES, RESIDUAL, ROOFLINE, columns, features, group_ids
from jmsnas.estimators.regression.model_selection import ModelChoice
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.space import Block
from jmsnas.space_file import load_space


def test_a_bent_table_is_predicted() -> None:
    assert bent().name.startswith("roofline + ")
    assert np.abs(bent().predict(table()) / bent_s(table()) - 1).mean() < 0.01
    assert np.abs(bent().roofline_s(table()) / bent_s(table()) - 1).mean() > 0.025


def test_the_same_seed_gives_the_same_numbers_and_a_refit_too() -> None:
    again = LatencyRegressor().refit(table(), bent_s(table()), bent().choice_)
    assert np.abs(again.predict(table()) / bent().predict(table()) - 1).max() < 1e-9
    for mine, theirs in zip(again.predict_interval(table()), bent().predict_interval(table()), strict=True):
        assert np.abs(mine / theirs - 1).max() < 1e-9


@settings(max_examples=100)
@given(st.lists(any_block(), min_size=1, max_size=4))
def test_predictions_are_positive_and_finite_for_any_block(blocks: list[Block]) -> None:
    X = features(blocks)
    predicted_s, (low_s, high_s) = bent().predict(X), bent().predict_interval(X)
    assert np.isfinite(high_s).all() and (low_s > 0).all()
    assert (low_s <= predicted_s).all() and (predicted_s <= high_s).all()


@settings(max_examples=10)
@given(st.lists(st.floats(1e-7, 10), min_size=13, max_size=13))
def test_predictions_are_positive_whatever_was_measured(measured_s: list[float]) -> None:
    found = LatencyRegressor().fit(table()[10:23], np.array(measured_s))
    predicted_s, (low_s, high_s) = found.predict(table()), found.predict_interval(table())
    assert np.isfinite(high_s).all() and (low_s > 0).all() and (predicted_s > 0).all()


def test_the_interval_is_the_conformal_margin_of_its_level() -> None:
    # Twenty errors a level: ceil(21 * 0.5) = 11th, ceil(21 * 0.9) = 19th.
    levels = tuple(tuple(scale * n / 100 for n in range(1, 21)) for scale in (1, 2, 3))
    choice = replace(bent().choice_, log_errors=levels)
    found = LatencyRegressor().refit(table(), bent_s(table()), choice)
    assert (found.margin(0.9, "known geometry"), found.margin(0.5)) == (0.19, 0.22)
    low_s, high_s = found.predict_interval(table()[:1], 0.5)
    assert high_s[0] / low_s[0] == pytest.approx(math.exp(2 * 0.11))
    # 12 channels were never seen, but lie between 8 and 16: the third level, no wider.
    low_s, high_s = found.predict_interval(features([Block.parse("mb_k3_e3 12->12 4x4")]), 0.5)
    assert high_s[0] / low_s[0] == pytest.approx(math.exp(2 * 0.33))


def test_the_interval_has_its_coverage_on_new_geometries() -> None:
    measured_s = noisy_s(table(), 0.08, seed=5)
    unseen = np.isin(group_ids(table()), [0, 3, 6, 9])
    found = LatencyRegressor().fit(table()[~unseen], measured_s[~unseen])
    low_s, high_s = found.predict_interval(table()[unseen], 0.9)
    held = ((low_s <= measured_s[unseen]) & (measured_s[unseen] <= high_s)).mean()
    assert 0.8 <= held <= 1.0


def test_outside_the_training_range_the_interval_widens() -> None:
    X = features([Block.parse(f"mb_k3_e3 16->16 {size}x{size}") for size in (8, 16, 64)])
    assert bent().extrapolated(X).tolist() == [False, True, True]
    low_s, high_s = bent().predict_interval(X)
    assert (np.diff(np.log(high_s / low_s)) > 0).all()


def test_all_rows_alike_predict_themselves() -> None:
    found = LatencyRegressor().fit(table(), np.full(len(BLOCKS), 3e-4))
    assert found.predict(table()) == pytest.approx(3e-4) and found.name == "roofline"


def test_two_rows_of_two_geometries_are_enough() -> None:
    X = features([BLOCKS[0], BLOCKS[-1]])
    assert LatencyRegressor().fit(X, exact_s(X)).predict(X) == pytest.approx(exact_s(X))


def test_no_rows_to_predict_give_none() -> None:
    assert bent().predict(features([])).shape == (0,)
    assert bent().extrapolated(features([])).shape == (0,)


@pytest.mark.parametrize("wrong", [0.0, -1e-3])
def test_a_latency_that_cannot_be_is_refused(wrong: float) -> None:
    X = features([BLOCKS[0], BLOCKS[-1]])
    with pytest.raises(EstimatorError, match="got a latency that is not above 0 s: check the table's rows"):
        LatencyRegressor().fit(X, np.array([1e-3, wrong]))


def test_what_cannot_be_fitted_is_refused_in_one_line() -> None:
    X, two_s = table()[:2], np.array([1e-3, 2e-3])
    with pytest.raises(EstimatorError, match="got 2 rows of 1 layer geometry: expected 2 geometries or more"):
        LatencyRegressor().fit(X, two_s)
    with pytest.raises(EstimatorError, match=rf"expected \(rows, {len(FEATURES)}\) as features"):
        LatencyRegressor().fit(X[:, :3], two_s)
    with pytest.raises(EstimatorError, match="got residual 'forest': expected one of auto, none, kernel"):
        LatencyRegressor(residual="forest").fit(X, two_s)
    with pytest.raises(EstimatorError, match=r"got noise of shape \(3,\): expected \(2,\), 0 or more"):
        LatencyRegressor().fit(X, two_s, np.zeros(3))
    with pytest.raises(EstimatorError, match="got noise of shape .*: expected .*, 0 or more"):
        LatencyRegressor().fit(X, two_s, np.array([0.1, -0.1]))
    with pytest.raises(EstimatorError, match="coverage must be more than 0 and less than 1"):
        bent().margin(1.0)
    wrong = ModelChoice("stages", ("gaussian_process",), 1.0, (0.0,), (), ((0.1,), (), ()))
    with pytest.raises(EstimatorError, match="the residual model cannot be fitted again.*Run: jmsnas fit-"):
        LatencyRegressor().refit(X, two_s, wrong)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="Input y contains (NaN|infinity)"):
        LatencyRegressor().fit(table()[:2], np.array([1e-3, wrong]))
    with pytest.raises(ValueError, match="Input X contains (NaN|infinity)"):
        bent().predict(np.full((1, len(FEATURES)), wrong))


def test_nothing_is_predicted_before_a_fit() -> None:
    for method in ("predict", "predict_interval", "roofline_s", "extrapolated"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(LatencyRegressor(), method)(table())


def test_rows_known_badly_are_not_followed() -> None:
    blocks = load_space("digits").blocks()
    X = features(blocks)
    table = simulated_table("pi4", blocks, [RuntimeKey()])
    true_s = np.array([row.median_s for row in table.rows])
    generator = np.random.default_rng(0)
    bad = generator.permutation(len(blocks))[: len(blocks) // 4]
    measured_s = true_s.copy()
    measured_s[bad] *= np.exp(0.5 * generator.standard_normal(len(bad)))
    noise = np.zeros(len(blocks))
    noise[bad] = 0.5
    weighted, unweighted = (LatencyRegressor().fit(X, measured_s, n).predict(X) for n in (noise, None))
    errors = [float(np.abs(predicted / true_s - 1).mean()) for predicted in (weighted, unweighted)]
    assert errors[0] < 0.5 * errors[1]


class AnyTable(LatencyRegressor):
    """The regressor with inputs of any meaning and number, as scikit-learn's checks make them."""

    def _features(self, X: FloatArray) -> FloatArray:
        found, width = np.zeros((len(X), len(FEATURES))), X.shape[1]
        found[:, columns(ROOFLINE[:width])] = np.abs(X[:, : len(ROOFLINE)])
        found[:, columns(RESIDUAL[:width])] = X[:, : len(RESIDUAL)]
        found[:, columns(["in_channels"])[0]] = np.floor(4 * X[:, 0])
        return found


# One check is left out: that of array APIs, which scipy supports only by a setting.
def test_scikit_learn_finds_no_fault() -> None:
    checked = check_estimator(AnyTable(residual="kernel_ridge"), on_skip=None)
    assert {result["check_name"] for result in checked if result["status"] != "passed"} <= {
        "check_array_api_input"
    }
    assert len(checked) > 40


def test_it_clones_and_tells_its_parameters() -> None:
    assert list(inspect.signature(LatencyRegressor).parameters) == ["seed", "residual"]
    found = clone(LatencyRegressor(3, "boosting").fit(table()[::5], exact_s(table()[::5])))
    assert found.get_params() == {"seed": 3, "residual": "boosting"} and not hasattr(found, "fit_")


def test_it_works_in_a_pipeline() -> None:
    pipeline = make_pipeline(FunctionTransformer(features), LatencyRegressor(residual="none"))
    pipeline.fit(BLOCKS, exact_s(table()))
    assert pipeline.predict(BLOCKS) == pytest.approx(exact_s(table()))
    noise = np.full(len(BLOCKS), 0.1)
    assert pipeline.fit(BLOCKS, exact_s(table()), latencyregressor__noise=noise).score(
        BLOCKS, exact_s(table())
    ) == pytest.approx(1)


def test_it_works_in_a_grid_search_over_geometries() -> None:
    search = GridSearchCV(
        LatencyRegressor(),
        {"residual": ["none", "kernel_ridge"]},
        cv=GroupKFold(3),
        scoring="neg_mean_absolute_percentage_error",
    ).fit(table(), bent_s(table()), groups=group_ids(table()), noise=np.zeros(len(BLOCKS)))
    assert search.best_params_ == {"residual": "kernel_ridge"} and search.best_score_ > -0.1
    scored = cross_val_score(LatencyRegressor(residual="none"), table(), exact_s(table()), cv=3)
    assert scored == pytest.approx(1)
