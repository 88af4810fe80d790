import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_luts import random_lut, random_mesh, random_p

from jmsnas.nas.derivation.local_search import local_search


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from(["strict", "relay", "stop-early"]))
def test_an_exchange_on_a_chain_is_timed_under_its_best_split(seed: int, policy: str) -> None:
    lut = random_lut(6, 4, 3, seed, policy)
    random = np.random.default_rng(seed)
    indices = tuple(int(random.choice(np.flatnonzero(row))) for row in lut.mask_NR)
    T_NR = lut.exchanges_s(indices, lut.best_split(indices)[1])
    for n, i in np.argwhere(lut.mask_NR):
        changed = (*indices[:n], int(i), *indices[n + 1 :])
        assert T_NR[n, i] == pytest.approx(lut.best_split(changed)[0], rel=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from(["broadcast", "serial"]))
def test_an_exchange_on_a_mesh_is_timed_with_the_same_children(seed: int, fan_out: str) -> None:
    lut = random_mesh(3, (2, 1, 2), 2, 4, seed, alike=False, fan_out=fan_out)
    random = np.random.default_rng(seed)
    indices = tuple(int(random.choice(np.flatnonzero(row))) for row in lut.mask_NR)
    placement = lut.best_split(indices)[1]
    T_NR = lut.exchanges_s(indices, placement)
    for n, i in np.argwhere(lut.mask_NR):
        changed = (*indices[:n], int(i), *indices[n + 1 :])
        line_s = lut.main_path.best_split([changed[layer] for layer in lut.main_path_layers])[0]
        own_s = line_s + lut.branch_ends_s(lut.tau_BK(changed), placement.children, placement.order).max()
        assert T_NR[n, i] == pytest.approx(own_s, rel=1e-9)


def test_all_that_is_given_lies_in_the_band_and_the_walk_reaches_likelier_ones() -> None:
    lut = random_lut(24, 13, 4, 7)
    p_NR = random_p(lut, 100.0, 7)
    log_p_NR = np.log(np.where(lut.mask_NR, p_NR, 1.0))
    low_s, high_s = lut.feasible_range_s()
    target_s = low_s + 0.6 * (high_s - low_s)
    start = tuple(np.where(lut.mask_NR, lut.U_NRM.mean(axis=2), np.inf).argmin(axis=1).tolist())
    assert lut.best_split(start)[0] < 0.97 * target_s  # far below the band
    met = list(local_search(lut, log_p_NR, start, 0.97 * target_s, target_s))
    scores = [log_p_NR[np.arange(24), list(indices)].sum() for indices in met]
    assert len(met) > 10 and max(scores) > scores[0]
    assert all(0.97 * target_s <= lut.best_split(indices)[0] <= target_s for indices in met)
    assert list(local_search(lut, log_p_NR, start, 0.5 * low_s, 0.9 * low_s)) == []
