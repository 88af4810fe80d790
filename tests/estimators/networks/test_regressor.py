import functools

import numpy as np
import pytest
from sklearn.base import clone

from jmsnas.arrays import FloatArray
from jmsnas.errors import EstimatorError
from jmsnas.estimators.networks.block_kinds import BlockKinds, block_kinds_of
from jmsnas.estimators.networks.regressor import SCALES, NetworkRegressor
from jmsnas.space import Block, Layer, valid_candidates
from jmsnas.space_file import mbconv_candidates

# Four layers of 13, 6, 13 and 6 choices; a network is one of each.
LAYERS = [Layer(8, 8, 1, 16, 16), Layer(8, 16, 2, 16, 16), Layer(16, 16, 1, 8, 8), Layer(16, 32, 2, 8, 8)]
CHOICES = [[Block(c, layer) for c in valid_candidates(layer, mbconv_candidates())] for layer in LAYERS]
KINDS = block_kinds_of([block for choices in CHOICES for block in choices])


def networks(count: int, seed: int) -> FloatArray:
    generator, starts = np.random.default_rng(seed), np.cumsum([0, *map(len, CHOICES)])
    counts = np.zeros((count, starts[-1]))
    for row in counts:
        for start, choices in zip(starts, CHOICES, strict=False):
            row[start + generator.integers(len(choices))] += 1
    return counts


def true_s(counts: FloatArray) -> FloatArray:
    """100 us; of each block 0.1 ns a MAC of its projection and 30 us a convolution, times 0.9 to 1.1."""
    block_s = 1e-10 * KINDS.work[:, 2] + 3e-5 * KINDS.work[:, 9]
    odd = np.random.default_rng(7).uniform(0.9, 1.1, len(block_s))
    return np.asarray(1e-4 + counts @ (block_s * odd))


@functools.cache
def learned() -> NetworkRegressor:
    seen = networks(100, 0)
    return NetworkRegressor(KINDS).fit(seen, true_s(seen))


def off(found: NetworkRegressor) -> float:
    unseen = networks(300, 1)
    return float(np.abs(found.predict(unseen) / true_s(unseen) - 1).mean())


def test_the_more_networks_the_better() -> None:
    few = networks(10, 0)
    assert off(learned()) < 0.01 < off(NetworkRegressor(KINDS).fit(few, true_s(few))) < 0.15


def test_the_seconds_of_a_block_are_found() -> None:
    block_s = true_s(np.eye(len(KINDS.layer))) - 1e-4
    computes = KINDS.work.any(axis=1)
    # An offset and what all blocks of a layer take cannot be separated: they go together, not are equal.
    assert np.corrcoef(learned().block_s_[computes], block_s[computes])[0, 1] > 0.9
    assert set(learned().scales_) == set(SCALES) and min(learned().scales_.values()) > 0


def test_a_few_very_slow_runs_are_not_followed() -> None:
    seen = networks(100, 0)
    measured_s = true_s(seen)
    measured_s[::20] *= 3
    assert off(NetworkRegressor(KINDS).fit(seen, measured_s)) < 0.025


def test_runs_that_are_slow_now_and_then_count() -> None:
    # One in four takes 20 % more, 5 % on the mean: neither the usual run nor more than the mean is said.
    seen = networks(100, 0)
    measured_s = true_s(seen) * (1 + 0.2 * (np.arange(100) % 4 == 0))
    unseen = networks(300, 1)
    ratio = NetworkRegressor(KINDS).fit(seen, measured_s).predict(unseen) / true_s(unseen)
    assert 1.02 < ratio.mean() < 1.06


def test_seed_and_scale_change_nothing_that_matters() -> None:
    seen = networks(100, 0)
    again = NetworkRegressor(KINDS).fit(seen, true_s(seen))
    assert (again.predict(seen) == learned().predict(seen)).all()
    slower = NetworkRegressor(KINDS).fit(seen, 1000 * true_s(seen))
    assert slower.predict(seen) / 1000 == pytest.approx(learned().predict(seen), rel=1e-6)


def test_many_networks_are_searched_in_part() -> None:
    seen = networks(300, 3)
    assert off(NetworkRegressor(KINDS, seed=1).fit(seen, true_s(seen))) < 0.005


def test_seconds_are_positive_far_from_all_that_was_measured() -> None:
    far = np.concatenate([np.zeros((1, len(KINDS.layer))), np.eye(len(KINDS.layer)), 1e3 * networks(2, 5)])
    predicted_s = learned().predict(far)
    assert np.isfinite(predicted_s).all()
    # A tenth of the fastest network that was measured.
    assert (predicted_s >= true_s(networks(100, 0)).min() / 10).all()
    assert learned().predict(far[:0]).shape == (0,)


def test_networks_all_alike_are_known() -> None:
    same = np.repeat(networks(1, 0), 5, axis=0)
    assert NetworkRegressor(KINDS).fit(same, np.full(5, 2e-3)).predict(same) == pytest.approx(2e-3, rel=0.01)


def test_it_clones() -> None:
    found = clone(learned(), safe=False)
    assert found.get_params()["seed"] == 0 and not hasattr(found, "block_s_")


@pytest.mark.parametrize(
    ("counts", "measured_s", "message"),
    [
        (
            networks(2, 0),
            np.ones(2),
            "got 2 networks and latencies of shape .*: expected .* 3 networks or more",
        ),
        (networks(4, 0), np.ones(3), r"got 4 networks and latencies of shape \(3,\)"),
        (
            networks(3, 0),
            np.array([1.0, 2.0, 0.0]),
            "got a network's latency that is not positive and finite",
        ),
        (networks(3, 0), np.array([1.0, 2.0, np.nan]), "that is not positive and finite: measure it again"),
        (networks(3, 0)[:, 1:], np.ones(3), r"expected \(networks, 38\), a column for each kind of block"),
        (-networks(3, 0), np.ones(3), "got a network that holds a negative or unknown number of some block"),
    ],
)
def test_what_cannot_be_learned_is_refused(counts: FloatArray, measured_s: FloatArray, message: str) -> None:
    with pytest.raises(EstimatorError, match=message):
        NetworkRegressor(KINDS).fit(counts, measured_s)


def test_counts_of_other_blocks_are_refused_in_predictions() -> None:
    with pytest.raises(EstimatorError, match="expected .networks, 38., a column for each kind of block"):
        learned().predict(np.ones((1, 3)))


def test_blocks_of_any_origin_do() -> None:
    # Two kinds at a layer, of 1 and 2 amounts; networks of three blocks take 1 ms an amount.
    kinds = BlockKinds(np.array([[1.0], [2.0]]), np.array([0, 0]), np.array([[0.0], [1.0]]))
    counts = np.array([[3.0, 0.0], [2.0, 1.0], [1.0, 2.0], [0.0, 3.0]])
    found = NetworkRegressor(kinds).fit(counts, counts @ [1e-3, 2e-3])
    assert found.predict(counts) == pytest.approx(counts @ [1e-3, 2e-3], rel=0.02)
