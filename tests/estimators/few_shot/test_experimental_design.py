import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_latencies import BLOCKS, exact_s, table

from jmsnas.errors import EstimatorError
from jmsnas.estimators.few_shot import experimental_design as design
from jmsnas.estimators.few_shot.experimental_design import informative_rows
from jmsnas.estimators.regression.features import features
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.space_file import load_space


def mean_variance(covariance: np.ndarray, seen: list[int]) -> float:
    """Mean variance over all rows after those of `seen`, by the textbook (R&W 2.26)."""
    K, noise = covariance[np.ix_(seen, seen)], 0.05**2 * np.eye(len(seen))
    known = covariance[:, seen]
    return float(np.mean(np.diag(covariance) - (known @ np.linalg.inv(K + noise) * known).sum(axis=1)))


def test_each_next_row_is_the_one_that_leaves_the_least_variance() -> None:
    X = table()[::4]
    covariance = design._covariance(X)
    order = informative_rows(X, 4).tolist()
    for n, row in enumerate(order):
        left = [mean_variance(covariance, [*order[:n], other]) for other in range(len(X))]
        assert left[row] == pytest.approx(min(left), rel=1e-9)


def test_covariance_by_hand() -> None:
    # Two rows alike but for one input: that one is standardised to -1 and 1, a distance of 2, so the rough
    # part is 0.09 exp(-2 / 7) apart and 0.09 at home. What runs is the same: shares of time agree.
    X = np.repeat(table()[:1], 2, axis=0)
    X[1, -1] += 0.5
    (own, between), _ = design._covariance(X)
    assert own - between == pytest.approx(0.09 * (1 - np.exp(-2 / 7)))
    # An identity spends all its time on being called, so its rate is all that it shows.
    identity = [n for n, block in enumerate(BLOCKS) if block.candidate.op == "identity"][:2]
    assert np.diag(design._covariance(table()[identity])) == pytest.approx([1.09, 1.09])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 40), more=st.integers(0, 20))
def test_order_has_each_row_once_and_its_beginning_does_not_depend_on_its_length(
    seed: int, rows: int, more: int
) -> None:
    X = table()[np.random.default_rng(seed).permutation(len(BLOCKS))[:rows]]
    order = informative_rows(X, rows).tolist()
    assert sorted(order) == [*range(rows)]
    assert informative_rows(X, more).tolist() == order[:more]


def test_blocks_in_order() -> None:
    blocks = load_space("digits").blocks()
    order = [blocks[row] for row in informative_rows(features(blocks), len(blocks))]
    assert {*order} == {*blocks} and len(order) == len(blocks)
    assert informative_rows(features(()), 5).tolist() == []
    # Not candidate after candidate of one layer, as a space lists them.
    assert len({block.layer for block in order[:5]}) >= 4 > len({block.layer for block in blocks[:5]})


def test_chosen_rows_predict_better_than_random_rows() -> None:
    X = table()
    y = exact_s(X) * np.exp(0.2 * X[:, -10] - 0.1 * X[:, -11])  # what no roofline explains
    chosen = informative_rows(X, 20)
    drawn = [np.random.default_rng(seed).permutation(len(y))[:20] for seed in range(5)]

    def error(seen: np.ndarray) -> float:
        fit = LatencyRegressor(residual="kernel_ridge").fit(X[seen], y[seen])
        return float(np.abs(fit.predict(X) / y - 1).mean())

    assert error(chosen) < 0.8 * np.mean([error(seen) for seen in drawn])


def test_too_many_blocks() -> None:
    with pytest.raises(EstimatorError, match=r"got 4001 blocks to choose from: expected 4000 or fewer\."):
        informative_rows(np.zeros((4001, table().shape[1])), 1)
