import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.nas.derivation.hall_bound import children_subsets, hall_bound


def test_two_branches_on_two_children() -> None:
    # Every way is slow when branch 0 is slow on both children (-5), when branch 1 is (-4), or when both are
    # slow on child 0 (-5 - 1) or on child 1 (-2 - 4): branch 1 alone is the cheapest.
    left_XK = children_subsets(2, 2)
    assert left_XK is not None and left_XK.tolist() == [[True, True], [False, True], [True, False]]
    assert hall_bound(np.array([[-5.0, -2.0], [-1.0, -4.0]]), left_XK) == pytest.approx(-4)


@given(st.integers(0, 2**32), st.sampled_from([(2, 2), (2, 3), (3, 3), (3, 4)]))
def test_no_set_of_slow_pairs_that_leaves_no_quick_way_costs_less(seed: int, size: tuple[int, int]) -> None:
    # A branch that is slow on a set of children pays at least its dearest: the bound must not be below the
    # best over all sets of slow pairs under which no way is quick.
    B, K = size
    random = np.random.default_rng(seed)
    gain_BK, best = -random.uniform(0, 5, (B, K)), -np.inf
    for slow in random.integers(0, 2, (300, B, K)).astype(bool):
        quick = any(not slow[range(B), way].any() for way in itertools.permutations(range(K), B))
        if not quick:
            best = max(best, np.where(slow, gain_BK, 0.0).min(axis=1).sum())
    left_XK = children_subsets(B, K)
    assert left_XK is not None and hall_bound(gain_BK, left_XK) >= best - 1e-12
    assert children_subsets(9, 9) is None
