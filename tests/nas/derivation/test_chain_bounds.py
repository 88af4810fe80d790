import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_luts import random_lut, random_p

from jmsnas.nas.derivation.chain_bounds import fixed_split_bounds, free_split_bounds, split_times_s
from jmsnas.nas.derivation.lp_cuts import lp_cuts
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.latency.policy import best_split

seeds = st.integers(0, 2**32)
policies = st.sampled_from(["strict", "relay", "stop-early"])


def completions(lut: ChainLUT, prefix: tuple[int, ...]) -> list[tuple[int, ...]]:
    rest = [np.flatnonzero(row).tolist() for row in lut.mask_NR[len(prefix) :]]
    return [(*prefix, *tail) for tail in itertools.product(*rest)]


def best_honest(
    lut: ChainLUT, log_p_NR: np.ndarray, prefix: tuple[int, ...], low_s: float, high_s: float
) -> float:
    """Score of the layers after `prefix` of the best network whose own least T lies in the window."""
    scores = [
        float(log_p_NR[np.arange(len(prefix), len(chosen)), list(chosen[len(prefix) :])].sum())
        for chosen in completions(lut, prefix)
        if low_s <= best_split(lut.tau_NM(chosen), lut.moves_LMM)[0] <= high_s
    ]
    return max(scores, default=-math.inf)


@settings(max_examples=60)
@given(seeds, policies, st.floats(0.1, 1), st.integers(0, 5))
def test_no_bound_is_ever_too_low(seed: int, policy: str, where: float, length: int) -> None:
    lut = random_lut(5, 3, 3, seed, policy)
    log_p_NR = np.log(np.where(lut.mask_NR, random_p(lut, 1.0, seed), 1.0))
    slow = best_split(lut.tau_NM([0, 1, 1, 1, 0]), lut.moves_LMM)[0]
    high_s, low_s = where * slow, 0.97 * where * slow
    random = np.random.default_rng(seed)
    prefix = tuple(int(random.choice(np.flatnonzero(row))) for row in lut.mask_NR[:length])
    true = best_honest(lut, log_p_NR, prefix, low_s, high_s)
    reached_s = np.zeros(1)
    for n, i in enumerate(prefix):
        reached_s = (reached_s[:, None] + lut.moves_LMM[n, : len(reached_s)]).min(axis=0) + lut.U_NRM[n, i]
    splits = free_split_bounds(log_p_NR, lut, low_s, high_s)
    assert splits.bound(length, reached_s[None])[0] >= true - 1e-9
    _, fast = best_split(lut.tau_NM([0, 2, 2, 2, 0]), lut.moves_LMM)
    _, slowest = best_split(lut.tau_NM([0, 1, 1, 1, 0]), lut.moves_LMM)
    for placements, weights in (([fast], [1.0]), ([fast, slowest], [0.3, 0.7])):
        bounds = fixed_split_bounds(log_p_NR, lut, placements, weights, low_s, high_s)
        bounds = bounds.joined(bounds)
        assert bounds.bound(length, bounds.passed(prefix)[:, None])[0] >= true - 1e-9


def test_the_times_of_a_split_add_up_to_its_t() -> None:
    lut = random_lut(6, 3, 3, 1)
    indices = (0, 1, 2, 0, 1, 0)
    latency_s, placement = best_split(lut.tau_NM(indices), lut.moves_LMM)
    tau_NR, moved_s = split_times_s(lut, placement)
    assert tau_NR[np.arange(6), indices].sum() + moved_s.sum() == pytest.approx(latency_s, rel=1e-12)


def test_splits_bind_where_the_likeliest_network_is_too_fast() -> None:
    lut = random_lut(8, 4, 3, 2)
    # The last candidate is nearly free; here it is also the likeliest.
    p_NR = np.where(lut.mask_NR, [0.05, 0.05, 0.05, 0.85], 0) + ~lut.mask_NR * 1.0
    log_p_NR = np.log(p_NR)
    slow = best_split(lut.tau_NM([0, *[1] * 6, 0]), lut.moves_LMM)[0]
    placements, weights = lp_cuts(log_p_NR, lut, 0.8 * slow)
    assert placements and sum(weights) == pytest.approx(1) and min(weights) >= 0
    assert lp_cuts(log_p_NR, lut, 0.0) == ([], [])
