import numpy as np
import pytest
from made_up_latencies import bent, bent_s, exact_s, noisy_s, table
from threadpoolctl import threadpool_limits

from jmsnas.estimators import choice as choice_module
from jmsnas.estimators.choice import Rows, choose, fit_rows
from jmsnas.estimators.features import features
from jmsnas.estimators.residuals import MODELS
from jmsnas.space_file import load_space

X = table()


def test_a_residual_is_kept_where_it_helps() -> None:
    choice = bent().choice_
    mapes = dict(choice.mapes)
    assert choice.residual and mapes[choice.residual] < 0.5 * mapes[()]
    each = [(name,) for name in MODELS]
    assert list(mapes) == [(), *each, tuple(MODELS)]


def test_a_residual_is_left_out_where_there_is_only_noise() -> None:
    choice, _ = choose(Rows(X, noisy_s(X, 0.05, seed=3), None))
    mapes = dict(choice.mapes)
    assert choice.residual == () and choice.share == 1 and len(mapes) == 5
    # 5 % of noise: mean |error| is 0.05 sqrt(2 / pi) = 4.0 %, and the roofline may do little worse.
    assert mapes[()] < 0.055


def test_what_is_half_true_is_believed_by_half() -> None:
    # What residual models say of a geometry left out is twice of what is so: halves are tried.
    geometries = np.repeat(np.arange(12), 5)
    errors = {((), 1.0): np.full(60, 0.1), (("boosting",), 0.5): np.full(60, 0.01)}
    errors |= {(("boosting",), 1.0): np.full(60, 0.1)}
    assert choice_module._simplest_of_the_best(errors, geometries) == (("boosting",), 0.5)
    rows = Rows(X, bent_s(X), None)
    whole, half = (fit_rows(rows, "stages", ("boosting",), share=share) for share in (1.0, 0.5))
    assert half.predict_s(X) ** 2 == pytest.approx(whole.predict_s(X) * whole.roofline_s(X))


def test_a_gain_in_one_geometry_is_no_gain() -> None:
    # 20 % less error in one geometry of twelve, as much more in half of another: luck, not knowledge.
    geometries = np.repeat(np.arange(12), 5)
    better = np.full(60, 0.1)
    better[:5], better[5:8] = 0.08, 0.12
    assert choice_module._simplest_of_the_best({"old": np.full(60, 0.1), "new": better}, geometries) == "old"
    assert choice_module._simplest_of_the_best({"old": better + 0.01, "new": better}, geometries) == "new"


def test_an_exact_roofline_leaves_nothing_to_try_and_is_recovered() -> None:
    table = features(load_space("imagenet").blocks())
    choice, fit = choose(Rows(table, exact_s(table), None))
    assert [models for models, _ in choice.mapes] == [()]
    assert np.abs(fit.predict_s(table) / exact_s(table) - 1).max() < 1e-6


def test_few_rows_are_not_asked_for_a_residual() -> None:
    some = np.arange(0, len(X), 13)[:9]
    choice, _ = choose(Rows(X[some], bent_s(X[some]), None))
    assert [models for models, _ in choice.mapes] == [()]


@pytest.mark.parametrize("models", [(), ("kernel_ridge",), ("boosting", "gaussian_process")])
def test_models_that_are_asked_for_are_taken(models: tuple[str, ...]) -> None:
    some = slice(0, None, 4)
    choice, fit = choose(Rows(X[some], noisy_s(X[some], 0.05), None), residual=models)
    assert choice.residual == fit.residual.names == models and choice.share == fit.residual.share == 1
    assert [tried for tried, _ in choice.mapes] == list(dict.fromkeys([(), models]))


def test_errors_are_kept_by_how_near_the_rows_were() -> None:
    known, geometry, channels = bent().choice_.log_errors
    # Each of the 114 rows is left out three ways: at random, with its geometry, with its channels.
    assert len(known) + len(geometry) + len(channels) == 3 * len(X)
    # In random fifths every geometry stays known; of a pair of channels, which has two sizes, one may stay.
    assert len(known) == len(X) and len(channels) >= len(X)
    for errors in (known, geometry, channels):
        assert list(errors) == sorted(errors) and errors[0] >= 0


def test_blocks_that_do_no_work_take_a_tenth_of_the_fastest() -> None:
    rows = Rows(X, X[:, 5] + 1e-6, None)
    fit = fit_rows(rows, "stages")
    assert fit.floor_s == pytest.approx(rows.y.min() / 10)
    assert fit.roofline_s(np.zeros((1, X.shape[1]))) >= fit.floor_s


def test_rows_can_be_taken_apart() -> None:
    rows = Rows(X, exact_s(X), np.arange(len(X)) / 100)
    some = rows.part(np.array([3, 1]))
    assert (
        np.array_equal(some.X, X[[3, 1]]) and some.noise is not None and some.noise.tolist() == [0.03, 0.01]
    )
    assert Rows(X, exact_s(X), None).part(np.array([3])).noise is None


def test_the_same_seed_makes_the_same_choice() -> None:
    rows = Rows(X, bent_s(X), None)
    # One thread, as the regressor takes: sums in another order differ in the last digits.
    with threadpool_limits(1, user_api="blas"):
        assert choose(rows)[0] == bent().choice_
