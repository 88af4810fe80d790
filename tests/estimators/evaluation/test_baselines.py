import numpy as np
import pytest
from synthetic_latencies import BLOCKS, exact_s, table

from jmsnas.estimators.evaluation.baselines import BASELINES, line_over_macs, nearest_block, plain_forest
from jmsnas.estimators.regression.features import columns, features
from jmsnas.space import Block, Candidate, Layer


def test_a_line_over_macs_is_the_least_squares_line() -> None:
    # 128 + 288 + 128 = 544 MACs (test_estimators_features); kernel size 5: 128 + 8*25*4 + 128 = 1056.
    # Of 100 and 612 us: 512 us for 512 MACs, so 1 us each and -444 us; kernel 7, 1824 MACs: 1380 us.
    layer = Layer(4, 4, 1, 2, 2)
    X = features([Block(Candidate(k, 2), layer) for k in (3, 5, 7)])
    assert line_over_macs(X[:2], np.array([100e-6, 612e-6]), X[2:]) == pytest.approx(1380e-6)


def test_the_nearest_block_answers_with_its_own_seconds() -> None:
    seconds = np.arange(1.0, 1 + len(BLOCKS))
    assert nearest_block(table(), seconds, table()).tolist() == seconds.tolist()
    # Among kernel sizes 3 and 7 of one layer, 9 is nearer to 7.
    layer = Layer(4, 4, 1, 2, 2)
    X = features([Block(Candidate(k, 2), layer) for k in (3, 7, 9)])
    assert nearest_block(X[:2], np.array([1.0, 2.0]), X[2:]).tolist() == [2.0]


def test_a_plain_forest_stays_within_what_it_saw() -> None:
    measured_s = exact_s(table())
    predicted_s = plain_forest(table()[::2], measured_s[::2], table()[1::2])
    assert measured_s.min() <= predicted_s.min() and predicted_s.max() <= measured_s.max()
    assert np.median(np.abs(predicted_s / measured_s[1::2] - 1)) < 0.5
    assert (predicted_s == plain_forest(table()[::2], measured_s[::2], table()[1::2])).all()


@pytest.mark.parametrize("name", BASELINES)
def test_an_input_that_never_varies_does_no_harm(name: str) -> None:
    X = table()[:19]
    assert np.ptp(X[:, columns(["stride"])]) == 0
    assert np.isfinite(BASELINES[name](X, exact_s(X), table())).all()
