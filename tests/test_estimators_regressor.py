import functools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jmsnas.errors import EstimatorError
from jmsnas.estimators.features import FEATURES, ROOFLINE, columns, features, geometry_groups
from jmsnas.estimators.regressor import Choice, LatencyRegressor, geometry_folds
from jmsnas.profiler.simulated import simulated_table
from jmsnas.profiler.table import Key
from jmsnas.space import HEAD, IDENTITY, STEM, Block, Candidate, Layer, candidates_at, mbconv_candidates
from jmsnas.space_file import load_space

Array = NDArray[np.float64]
# MACs at 1 to 10 GMAC/s, bytes at 1 to 8 GB/s, launches of 1 to 20 us, 5 us a call.
RATES = np.array(
    [1e-9, 2e-10, 1e-10, 1e-9, 5e-10, 1e-9, 3e-10, 4e-10, 1.25e-10, 2e-5, 9e-6, 1e-6, 3e-6, 5e-6]
)
LAYERS = [Layer(c, c * s, s, h, h) for c in (8, 16, 32) for s in (1, 2) for h in (4, 8)]
BLOCKS = [Block(c, layer) for layer in LAYERS for c in candidates_at(layer, mbconv_candidates())]


def exact_s(table: Array) -> Array:
    return np.asarray(table[:, columns(ROOFLINE)] @ RATES[:-1] + RATES[-1])


def bent_s(table: Array) -> Array:
    """Latencies with what no sum of work explains: large kernels on few pixels are 40 % slower."""
    bend = 0.2 * table[:, columns(["log_kernel_size"])] - 0.1 * table[:, columns(["log_pixels"])]
    return np.asarray(exact_s(table) * np.exp(bend[:, 0]))


@functools.cache
def bent() -> tuple[LatencyRegressor, Array, Array]:
    table = features(BLOCKS)
    return LatencyRegressor().fit(table, bent_s(table)), table, bent_s(table)


def test_an_exact_roofline_keeps_no_residual_and_is_recovered() -> None:
    table = features(load_space("imagenet").blocks())
    found = LatencyRegressor().fit(table, exact_s(table))
    assert found.name == "roofline" and found.choice_.mape_residual is None
    assert np.abs(found.predict(table) / exact_s(table) - 1).max() < 1e-6


def test_a_residual_is_kept_where_it_helps() -> None:
    found, table, measured_s = bent()
    choice = found.choice_
    assert found.name == "roofline + residual" and choice.mape_residual is not None
    assert choice.mape_residual < 0.5 * choice.mape_roofline
    assert np.abs(found.predict(table) / measured_s - 1).mean() < 0.01


def test_a_residual_is_left_out_where_there_is_only_noise() -> None:
    table = features(BLOCKS)
    noise = np.random.default_rng(3).normal(0, 0.05, len(table))
    found = LatencyRegressor().fit(table, exact_s(table) * np.exp(noise))
    choice = found.choice_
    assert not choice.residual and choice.mape_residual is not None
    # 5 % of noise: mean |error| is 0.05 sqrt(2 / pi) = 4.0 %, and the roofline may do little worse.
    assert choice.mape_roofline < 0.055


def test_below_twenty_rows_no_residual_is_tried() -> None:
    _, table, measured_s = bent()
    some = np.arange(0, len(table), 8)[:19]
    assert LatencyRegressor().fit(table[some], measured_s[some]).choice_.mape_residual is None


def test_the_same_seed_gives_the_same_numbers_and_a_refit_too() -> None:
    found, table, measured_s = bent()
    again = LatencyRegressor().refit(table, measured_s, found.choice_)
    assert np.abs(again.predict(table) / found.predict(table) - 1).max() < 1e-9
    assert LatencyRegressor().fit(table, measured_s).choice_ == found.choice_


def test_folds_never_split_a_geometry() -> None:
    table = features(BLOCKS)
    groups, folds = geometry_groups(table), geometry_folds(table)
    assert len(folds) == 5
    assert sorted(n for _, unseen in folds for n in unseen) == list(range(len(table)))
    for seen, unseen in folds:
        assert not set(groups[seen]) & set(groups[unseen])


@st.composite
def any_block(draw: st.DrawFn) -> Block:
    sizes = [draw(st.integers(1, 1 << 16)) for _ in range(4)]
    role = draw(st.sampled_from(["block", "stem", "head"]))
    stride = 1 if role == "head" else draw(st.sampled_from([1, 2]))
    if draw(st.booleans()) and role == "block":
        sizes[1], stride = sizes[0], 1
    layer = Layer(
        sizes[0],
        sizes[1],
        stride,
        sizes[2],
        sizes[3],
        role,
        draw(st.integers(1, 1 << 16)) if role == "head" else 0,
    )
    if role != "block":
        return Block(STEM if role == "stem" else HEAD, layer)
    mb = Candidate(
        draw(st.integers(0, 15)) * 2 + 1, draw(st.integers(1, 20)), draw(st.booleans()) and layer.keeps_shape
    )
    return Block(draw(st.sampled_from([mb, IDENTITY])) if layer.keeps_shape else mb, layer)


@settings(max_examples=300)
@given(st.lists(any_block(), min_size=1, max_size=4))
def test_predictions_are_positive_and_finite_for_any_block(blocks: list[Block]) -> None:
    found, _, _ = bent()
    table = features(blocks)
    predicted_s, (low_s, high_s) = found.predict(table), found.predict_interval(table)
    assert np.isfinite(high_s).all() and (low_s > 0).all()
    assert (low_s <= predicted_s).all() and (predicted_s <= high_s).all()


@settings(max_examples=40)
@given(st.lists(st.floats(1e-7, 10), min_size=13, max_size=13))
def test_predictions_are_positive_whatever_was_measured(measured_s: list[float]) -> None:
    table = features(BLOCKS)
    found = LatencyRegressor().fit(table[10:23], np.array(measured_s))
    predicted_s = found.predict(table)
    assert np.isfinite(predicted_s).all() and (predicted_s > 0).all()


def test_the_margin_is_the_conformal_rank() -> None:
    # Nine errors: ceil(10 * 0.9) = 9th, ceil(10 * 0.5) = 5th; ceil(10 * 0.99) = 10 > 9: the largest.
    found, table, measured_s = bent()
    errors = tuple(n / 10 for n in range(1, 10))
    nine = LatencyRegressor().refit(table, measured_s, replace(found.choice_, log_errors=errors))
    assert (nine.margin(0.9), nine.margin(0.5), nine.margin(0.99)) == (0.9, 0.5, 0.9)
    low_s, high_s = nine.predict_interval(table[:1], 0.5)
    assert high_s[0] / low_s[0] == pytest.approx(math.exp(2 * 0.5))


def test_the_interval_holds_what_it_says_on_geometries_never_seen() -> None:
    table = features(BLOCKS)
    measured_s = exact_s(table) * np.exp(np.random.default_rng(5).normal(0, 0.08, len(table)))
    unseen = np.isin(geometry_groups(table), [0, 3, 6, 9])
    found = LatencyRegressor().fit(table[~unseen], measured_s[~unseen])
    low_s, high_s = found.predict_interval(table[unseen], 0.9)
    held = ((low_s <= measured_s[unseen]) & (measured_s[unseen] <= high_s)).mean()
    assert 0.8 <= held <= 1.0


def test_all_rows_alike_predict_themselves() -> None:
    table = features(BLOCKS)
    found = LatencyRegressor().fit(table, np.full(len(table), 3e-4))
    assert found.predict(table) == pytest.approx(3e-4) and found.name == "roofline"


def test_two_rows_of_two_geometries_are_enough() -> None:
    table = features([BLOCKS[0], BLOCKS[-1]])
    assert LatencyRegressor().fit(table, exact_s(table)).predict(table) == pytest.approx(exact_s(table))


def test_no_rows_to_predict_give_none() -> None:
    found, _, _ = bent()
    assert found.predict(features([])).shape == (0,)


def test_what_cannot_be_fitted_is_refused_in_one_line() -> None:
    table = features(BLOCKS[:2])
    with pytest.raises(EstimatorError, match="got 2 rows of 1 layer geometry: expected 2 geometries or more"):
        LatencyRegressor().fit(table, np.array([1e-3, 1e-3]))
    with pytest.raises(EstimatorError, match=rf"expected \(rows, {len(FEATURES)}\) as features"):
        LatencyRegressor().fit(table[:, :3], np.array([1e-3, 1e-3]))
    with pytest.raises(EstimatorError, match="not positive and finite"):
        LatencyRegressor().fit(table, np.array([1e-3, 0.0]))
    with pytest.raises(EstimatorError, match="coverage must be more than 0 and less than 1"):
        bent()[0].margin(1.0)
    with pytest.raises(EstimatorError, match="the residual model cannot be fitted again"):
        LatencyRegressor().refit(table, np.array([1e-3, 2e-3]), Choice(True, (0.0,), (0.1,), 0.1, 0.05))


def test_rows_known_badly_are_not_followed() -> None:
    blocks = load_space("digits").blocks()
    X = features(blocks)
    table = simulated_table("pi4", blocks, [Key()])
    true_s = np.array([row.median_s for row in table.rows])
    generator = np.random.default_rng(0)
    bad = generator.permutation(len(blocks))[: len(blocks) // 4]
    measured_s = true_s.copy()
    measured_s[bad] *= np.exp(0.5 * generator.standard_normal(len(bad)))
    noise = np.zeros(len(blocks))
    noise[bad] = 0.5
    told, untold = (LatencyRegressor().fit(X, measured_s, n).predict(X) for n in (noise, None))
    errors = [float(np.abs(predicted / true_s - 1).mean()) for predicted in (told, untold)]
    assert errors[0] < 0.5 * errors[1]
