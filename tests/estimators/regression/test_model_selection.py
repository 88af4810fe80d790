import numpy as np
import pytest
from synthetic_latencies import bent, bent_s, exact_s, noisy_s, table
from threadpoolctl import threadpool_limits

from jmsnas.estimators.regression.features import TrainingRows, columns, features
from jmsnas.estimators.regression.model_selection import _combine, fit_model, select_model
from jmsnas.estimators.regression.model_selection import _simplest_of_the_best as best
from jmsnas.estimators.regression.residual_models import MODELS
from jmsnas.space_file import load_space

X = table()


def test_a_residual_is_kept_where_it_helps() -> None:
    choice = bent().choice_
    mapes = dict(choice.mapes)
    assert choice.residual and mapes[choice.residual] < 0.5 * mapes[()]
    each = [(name,) for name in MODELS]
    assert list(mapes) == [(), *each, tuple(MODELS)]


def test_a_residual_is_left_out_where_there_is_only_noise() -> None:
    choice, _ = select_model(TrainingRows(X, noisy_s(X, 0.05, seed=3)))
    mapes = dict(choice.mapes)
    assert choice.residual == () and choice.share == 1 and len(mapes) == 5
    # 5 % of noise: mean |error| is 0.05 sqrt(2 / pi) = 4.0 %, and the roofline may do little worse.
    assert mapes[()] < 0.055


def test_half_of_a_residual_is_half_of_its_logarithm() -> None:
    rows = TrainingRows(X, bent_s(X))
    whole, half = (fit_model(rows, "stages", ("boosting",), share=share) for share in (1.0, 0.5))
    assert half.predict_s(X) ** 2 == pytest.approx(whole.predict_s(X) * whole.roofline_s(X))


@pytest.mark.parametrize("names", [("boosting",), tuple(MODELS)])
def test_models_fitted_one_by_one_are_combined_as_if_fitted_together(names: tuple[str, ...]) -> None:
    rows = TrainingRows(X[::2], bent_s(X[::2]))
    with threadpool_limits(1, user_api="blas"):
        combined = _combine([fit_model(rows, "stages", (name,)) for name in names], 0.5)
        together = fit_model(rows, "stages", names, share=0.5)
        assert (combined.predict_s(X) == together.predict_s(X)).all()
    assert (combined.residual.names, combined.residual.share) == (names, 0.5)


# Errors of 60 rows of twelve geometries.
GEOMETRIES, PLAIN = np.repeat(np.arange(12), 5), np.full(60, 0.1)


def test_a_gain_in_one_geometry_is_no_gain() -> None:
    # Half of the error less in one geometry of twelve, as much more in three rows of another: 0.1 / 60 =
    # 0.00167 on the mean, standard error sqrt(0.2417^2 + 0.1583^2 + 10 * 0.0083^2) / 60 = 0.00484.
    better = PLAIN.copy()
    better[:5], better[5:8] = 0.05, 0.15
    assert best({"old": PLAIN, "new": better}, GEOMETRIES, 0.5) == "old"
    assert best({"old": PLAIN, "new": better}, GEOMETRIES, 0.3) == "new"


def test_the_first_step_must_gain_more() -> None:
    errors = {"roofline": PLAIN, "ridge": PLAIN - 0.004, "trees": PLAIN - 0.006, "process": PLAIN - 0.0075}
    # A twentieth of 10 % is 0.5 %: the ridge falls short, then steps of 0.1 % are enough.
    assert best(errors, GEOMETRIES, 1.0, 0.05) == "process"
    assert best({**errors, "process": PLAIN - 0.0065}, GEOMETRIES, 1.0, 0.05) == "trees"
    assert best({"roofline": PLAIN, "ridge": PLAIN - 0.004}, GEOMETRIES, 1.0, 0.05) == "roofline"
    assert best({"roofline": PLAIN, "ridge": PLAIN - 0.004}, GEOMETRIES, 1.0) == "ridge"


def test_an_exact_roofline_leaves_nothing_to_try_and_is_recovered() -> None:
    table = features(load_space("imagenet").blocks())
    choice, fit = select_model(TrainingRows(table, exact_s(table)))
    assert [models for models, _ in choice.mapes] == [()]
    assert np.abs(fit.predict_s(table) / exact_s(table) - 1).max() < 1e-6


def test_few_rows_get_no_residual_model() -> None:
    some = np.arange(0, len(X), 13)[:9]
    choice, _ = select_model(TrainingRows(X[some], bent_s(X[some])))
    assert [models for models, _ in choice.mapes] == [()]


@pytest.mark.parametrize("models", [(), ("kernel_ridge",), ("boosting", "gaussian_process")])
def test_given_models_are_used(models: tuple[str, ...]) -> None:
    some = slice(0, None, 4)
    choice, fit = select_model(TrainingRows(X[some], noisy_s(X[some], 0.05)), residual=models)
    assert choice.residual == fit.residual.names == models and choice.share == fit.residual.share == 1
    assert [tried for tried, _ in choice.mapes] == list(dict.fromkeys([(), models]))


def test_errors_are_kept_by_how_near_the_rows_were() -> None:
    known, geometry, channels = bent().choice_.log_errors
    # Each of the 108 rows that do work is left out three ways: at random, with its geometry, its channels.
    busy = int((X[:, columns(["identity"])[0]] == 0).sum())
    assert len(known) + len(geometry) + len(channels) == 3 * busy
    # In random tenths every geometry stays known; of a pair of channels, which has two sizes, one may stay.
    assert len(known) == busy and len(channels) >= busy
    for errors in (known, geometry, channels):
        assert list(errors) == sorted(errors) and errors[0] >= 0


def test_blocks_that_do_no_work_have_a_rule_of_their_own() -> None:
    idle = X[:, columns(["identity"])[0]] > 0
    measured_s = np.where(idle, 5e-7, bent_s(X))
    choice, fit = select_model(TrainingRows(X, measured_s))
    # Whatever their sizes, and whatever a residual model says of the others.
    assert choice.residual and fit.predict_s(X[idle]) == pytest.approx(5e-7)
    # None was seen: the constant, which all blocks pay, and no less than a tenth of the fastest.
    macs_s = X[~idle][:, columns(["expand_macs", "project_macs"])].sum(axis=1) / 1e9
    alone = fit_model(TrainingRows(X[~idle], 4e-5 + macs_s), "merged")
    assert alone.idle_s == pytest.approx(4e-5, rel=1e-6) and (alone.predict_s(X[idle]) == alone.idle_s).all()
    alone = fit_model(TrainingRows(X[~idle], macs_s), "merged")
    assert alone.idle_s == alone.floor_s == macs_s.min() / 10


def test_errors_of_blocks_that_do_no_work_count_nowhere() -> None:
    idle = X[:, columns(["identity"])[0]] > 0
    outlier_s = np.where(idle, np.geomspace(1e-9, 1, len(X)), noisy_s(X, 0.02))
    choice, _ = select_model(TrainingRows(X, outlier_s))
    assert dict(choice.mapes)[()] < 0.05 and max(map(max, choice.log_errors)) < 0.5
    # Where there are no others they are all there is.
    assert select_model(TrainingRows(X[idle], np.linspace(1e-6, 2e-6, int(idle.sum()))))[0].mapes[0][1] > 0.1


def test_rows_are_selected_with_their_noise() -> None:
    rows = TrainingRows(X, exact_s(X), np.arange(len(X)) / 100)
    some = rows.select(np.array([3, 1]))
    assert (
        np.array_equal(some.X, X[[3, 1]]) and some.noise is not None and some.noise.tolist() == [0.03, 0.01]
    )
    assert TrainingRows(X, exact_s(X)).select(np.array([3])).noise is None


def test_the_same_seed_makes_the_same_choice() -> None:
    rows = TrainingRows(X, bent_s(X))
    # One thread, as the regressor takes: sums in another order differ in the last digits.
    with threadpool_limits(1, user_api="blas"):
        assert select_model(rows)[0] == bent().choice_
