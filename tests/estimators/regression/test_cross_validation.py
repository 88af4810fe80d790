import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_latencies import table

from jmsnas.estimators.regression.cross_validation import (
    can_fit,
    channel_folds,
    few_row_folds,
    group_folds,
    random_folds,
)
from jmsnas.estimators.regression.features import CHANNEL_PAIR, group_ids


@given(rows=st.integers(2, 114), seed=st.integers(0, 9))
def test_random_folds_leave_out_each_row_once(rows: int, seed: int) -> None:
    folds = random_folds(rows, seed)
    assert len(folds) == min(5, rows)
    assert sorted(n for _, unseen in folds for n in unseen) == list(range(rows))
    assert all(len(seen) + len(unseen) == rows for seen, unseen in folds)


@given(rows=st.integers(1, 114), seed=st.integers(0, 9), folds=st.integers(2, 10))
def test_no_geometry_is_on_both_sides(rows: int, seed: int, folds: int) -> None:
    X = table()[np.random.default_rng(seed).permutation(114)[:rows]]
    geometries, found = group_ids(X), group_folds(X, seed=seed, folds=folds)
    count = len(set(geometries))
    assert len(found) == (0 if count < 2 else min(folds, count))
    for seen, unseen in found:
        assert not set(geometries[seen]) & set(geometries[unseen])
    if found:
        assert sorted(n for _, unseen in found for n in unseen) == list(range(rows))


def test_no_pair_of_channels_is_on_both_sides() -> None:
    pairs = group_ids(table(), CHANNEL_PAIR)
    # Three widths, each with stride 1 and, twice as wide, with stride 2: six pairs.
    assert len(set(pairs)) == 6
    for seen, unseen in channel_folds(table()):
        assert not set(pairs[seen]) & set(pairs[unseen])


def test_the_seed_draws_the_folds() -> None:
    first, again, other = (group_folds(table(), seed=seed) for seed in (0, 0, 1))
    assert all((a[1] == b[1]).all() for a, b in zip(first, again, strict=True))
    assert any(set(a[1]) != set(b[1]) for a, b in zip(first, other, strict=True))


def test_no_folds_of_nothing() -> None:
    assert group_folds(table()[:0]) == [] and group_folds(table()[:3]) == []


def test_few_row_folds_have_the_given_training_size() -> None:
    found = few_row_folds(table(), 20, 3)
    assert [(len(seen), len(unseen)) for seen, unseen in found] == [(20, 94)] * 3
    assert len({tuple(seen) for seen, _ in found}) == 3
    for seen, unseen in found:
        assert sorted([*seen, *unseen]) == list(range(114))


@pytest.mark.parametrize(("few", "draws"), [(76, 1), (77, 0)])
def test_a_third_must_be_left_to_judge(few: int, draws: int) -> None:
    assert len(few_row_folds(table(), few, 1)) == draws


def test_draws_of_one_geometry_are_left_out() -> None:
    # Nine rows of one geometry and one of another: few draws of two rows have both.
    found = few_row_folds(table()[[*range(9), 113]], 2, 50)
    assert 0 < len(found) < 50 and all(9 in seen for seen, _ in found)


def test_folds_with_one_training_geometry_cannot_be_fitted() -> None:
    # 19 rows of two geometries: each in turn is all that is left.
    assert not can_fit(table()[:26], group_folds(table()[:26]))
    assert not can_fit(table(), [])
    assert can_fit(table(), group_folds(table()))
    assert not can_fit(table(), [*group_folds(table()), (np.arange(3), np.arange(3, 9))])
