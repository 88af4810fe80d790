import numpy as np
import pytest
from synthetic_latencies import bent_s, exact_s, table

from jmsnas.estimators.regression.features import TrainingRows
from jmsnas.estimators.regression.residual_models import (
    MODELS,
    candidate_models,
    fit_residual_model,
    model_names,
)

X = table()
SLOW_S, BASE_S = bent_s(X), exact_s(X)
ROWS = TrainingRows(X, SLOW_S)


KINDS = [(), *((name,) for name in MODELS), tuple(MODELS)]


@pytest.mark.parametrize("names", KINDS)
def test_each_learns_what_the_roofline_leaves(names: tuple[str, ...]) -> None:
    found = fit_residual_model(names, ROWS, BASE_S)
    errors = np.abs(BASE_S * np.exp(found.correction(X, BASE_S)) / SLOW_S - 1)
    # Without a model the bend is left: 0.2 log 7 - 0.1 log 16 = 0.11 at most above, -0.42 below.
    assert errors.mean() < 0.02 if names else errors.mean() > 0.1
    assert bool(found.theta) == ("gaussian_process" in names)
    assert found.correction(X[:0], BASE_S[:0]).shape == (0,)


@pytest.mark.parametrize("names", KINDS)
def test_never_beyond_what_was_seen(names: tuple[str, ...]) -> None:
    some = slice(0, 40)
    found = fit_residual_model(names, ROWS.select(np.arange(40)), BASE_S[some])
    logs = np.log(SLOW_S[some] / BASE_S[some])
    predicted = found.correction(X * 50, BASE_S * 50)
    assert (predicted >= min(logs.min(), 0)).all() and (predicted <= max(logs.max(), 0)).all()


def test_several_are_the_mean_of_each() -> None:
    predicted = [fit_residual_model([name], ROWS, BASE_S).correction(X, BASE_S) for name in MODELS]
    together = fit_residual_model(tuple(MODELS), ROWS, BASE_S).correction(X, BASE_S)
    assert together == pytest.approx(np.mean(predicted, axis=0), abs=1e-3)


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (9, ()),
        (10, ("kernel_ridge", "gaussian_process")),
        (39, ("kernel_ridge", "gaussian_process")),
        (40, ("kernel_ridge", "boosting", "gaussian_process")),
        (250, ("kernel_ridge", "boosting", "gaussian_process")),
        (251, ("boosting", "gaussian_process")),
    ],
)
def test_what_suits_so_many_rows(rows: int, names: tuple[str, ...]) -> None:
    assert candidate_models(rows) == names


def test_half_is_half() -> None:
    whole, half = (fit_residual_model(["boosting"], ROWS, BASE_S, share=share) for share in (1.0, 0.5))
    assert half.correction(X, BASE_S) == pytest.approx(whole.correction(X, BASE_S) / 2)


def test_known_lengths_are_not_searched_again() -> None:
    found = fit_residual_model(["gaussian_process"], ROWS, BASE_S)
    again = fit_residual_model(["gaussian_process"], ROWS, BASE_S, theta=found.theta)
    assert again.theta == found.theta
    assert (again.correction(X, BASE_S) == found.correction(X, BASE_S)).all()
    with pytest.raises(ValueError, match="expected 17 numbers in theta, got 1"):
        fit_residual_model(["gaussian_process"], ROWS, BASE_S, theta=(0.0,))


@pytest.mark.parametrize("name", MODELS)
def test_noisy_rows_weigh_less(name: str) -> None:
    wrong, noise = SLOW_S.copy(), np.zeros(len(X))
    wrong[::5] *= 1.5
    noise[::5] = 0.5
    others = np.arange(len(X)) % 5 != 0

    def off(known: np.ndarray | None) -> float:
        predicted = fit_residual_model([name], TrainingRows(X, wrong, known), BASE_S).correction(X, BASE_S)
        return float(np.abs(BASE_S * np.exp(predicted) / SLOW_S - 1)[others].mean())

    assert off(noise) < 0.7 * off(None)


def test_rows_all_alike_need_no_correction() -> None:
    for names in KINDS:
        assert fit_residual_model(names, TrainingRows(X, BASE_S), BASE_S).correction(
            X, BASE_S
        ) == pytest.approx(0, abs=1e-12)


def test_model_names_for_printing() -> None:
    assert model_names(["boosting"]) == "boosted trees"
    assert model_names(tuple(MODELS)) == "mean of kernel ridge, boosted trees and Gaussian process"
