import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from jmsnas.estimators.regression import gaussian_process as gaussian
from jmsnas.estimators.regression.gaussian_process import fit_gaussian_process, search_theta

GENERATOR = np.random.default_rng(0)
Z = GENERATOR.standard_normal((80, 3))
# The third input says nothing; 2 % of noise.
Y = np.sin(Z[:, 0]) + 0.3 * Z[:, 1] + GENERATOR.normal(0, 0.02, 80)
EXACT = np.zeros(80)
THETA = np.log([1.0, 2.0, 4.0, 8.0, 0.01])


def test_one_row_worked_by_hand() -> None:
    # Signal 1, length 1, noise 1: alpha = 2 / (1 + 1) = 1. At distance 1 r = sqrt(5), r^2 / 3 = 5 / 3, so the
    # mean is (1 + sqrt(5) + 5 / 3) exp(-sqrt(5)) = 0.523994.
    found = fit_gaussian_process(np.zeros((1, 1)), np.array([2.0]), np.zeros(1), np.zeros(3))
    assert found.predict(np.array([[0.0], [1.0]])) == pytest.approx([1.0, 0.523994], abs=1e-6)


def test_it_is_the_process_of_scikit_learn() -> None:
    kernel = ConstantKernel(1.0) * Matern([2.0, 4.0, 8.0], nu=2.5) + WhiteKernel(0.01)
    theirs = GaussianProcessRegressor(kernel, optimizer=None).fit(Z, Y)
    inputs = np.random.default_rng(1).standard_normal((130, 3))
    ours = fit_gaussian_process(Z, Y, EXACT, THETA)
    assert ours.predict(inputs) == pytest.approx(theirs.predict(inputs), abs=1e-6)
    # The two drop different constants: n / 2 log(2 pi).
    value, slope = gaussian._minus_log_evidence(THETA, Z, Y, EXACT)
    kernel_theta = np.log([1.0, 2.0, 4.0, 8.0, 0.01])
    evidence, gradient = theirs.log_marginal_likelihood(kernel_theta, eval_gradient=True)
    assert value + len(Y) / 2 * np.log(2 * np.pi) == pytest.approx(-evidence)
    assert slope == pytest.approx(-gradient, rel=1e-4)


def test_the_search_finds_what_matters() -> None:
    theta = search_theta(Z, Y, EXACT, seed=0)
    signal, *lengths, noise = np.exp(theta)
    assert lengths[2] > 2 * max(lengths[:2])
    # 0.02^2 = 4e-4, within a factor of three.
    assert 1e-4 < noise < 1.2e-3 and 0.1 < signal < 100
    assert (search_theta(Z, Y, EXACT, seed=0) == theta).all()


def test_a_large_table_is_searched_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian, "MAX_SEARCH_ROWS", 40)
    one, other = (search_theta(Z, Y, EXACT, seed) for seed in (0, 1))
    assert (one != other).any() and one == pytest.approx(other, abs=3)


def test_a_row_that_the_others_contradict_is_not_followed() -> None:
    wrong = Y.copy()
    wrong[7] += 5
    others = np.arange(80) != 7
    clean = fit_gaussian_process(Z[others], Y[others], EXACT[others], THETA).predict(Z)
    assert np.abs(fit_gaussian_process(Z, wrong, EXACT, THETA).predict(Z) - clean).max() < 0.1


def test_noisy_rows_weigh_less() -> None:
    wrong, variance = Y.copy(), EXACT.copy()
    wrong[::4] += 0.3
    variance[::4] = 1.0
    weighted, unweighted = (
        fit_gaussian_process(Z, wrong, known, THETA).predict(Z) for known in (variance, EXACT)
    )
    assert np.abs(weighted - Y)[1::4].mean() < 0.5 * np.abs(unweighted - Y)[1::4].mean()


def test_far_from_all_rows_the_prediction_is_the_mean() -> None:
    assert fit_gaussian_process(Z, Y, EXACT, THETA).predict(np.full((1, 3), 1e3)) == pytest.approx([0.0])
    assert fit_gaussian_process(Z, Y, EXACT, THETA).predict(Z[:0]).shape == (0,)


def test_repeated_rows_can_be_inverted_and_an_infinite_signal_cannot() -> None:
    theta = np.log([1.0, 1.0, 1.0, 1.0, 1e-6])
    same = fit_gaussian_process(np.repeat(Z[:5], 2, axis=0), np.repeat(Y[:5], 2), np.zeros(10), theta)
    assert np.isfinite(same.predict(Z)).all()
    with pytest.raises(ValueError, match="expected 5 numbers in theta, got 2"):
        fit_gaussian_process(Z, Y, EXACT, np.zeros(2))
    with pytest.raises(ValueError, match="the covariance cannot be inverted"):
        fit_gaussian_process(np.zeros((80, 3)), Y, EXACT, np.array([50.0, 0, 0, 0, -50.0]))
