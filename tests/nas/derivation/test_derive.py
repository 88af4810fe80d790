import itertools
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from synthetic_luts import limited_lut, move_latencies_s, random_lut, random_p

from jmsnas.errors import InfeasibleError, SearchLimitError
from jmsnas.nas.derivation.derive import argmax_architecture, best_architectures, derive
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.latency.policy import best_split


def all_networks(p_NR: NDArray[np.float64], lut: ChainLUT) -> list[tuple[float, float, tuple[int, ...]]]:
    """(score, own least T, operations) of every network there is."""
    found = []
    for indices in itertools.product(*[np.flatnonzero(row).tolist() for row in lut.mask_NR]):
        score = float(np.log(p_NR[np.arange(len(indices)), list(indices)]).sum())
        found.append((score, best_split(lut.tau_NM(indices), lut.moves_LMM)[0], indices))
    return found


cases = st.tuples(
    st.integers(3, 5),
    st.integers(2, 4),
    st.integers(1, 3),
    st.integers(0, 2**32),
    st.sampled_from(["strict", "relay", "stop-early"]),
    st.sampled_from([0.05, 1.0, 10.0]),
    st.sampled_from([0.3, 3.0, 100.0]),
    st.floats(0, 1.05),
    st.sampled_from([0.0, 0.3, 3.0]),
)


@settings(max_examples=150)
@given(cases)
def test_brute_force_agrees(case: tuple[int, int, int, int, str, float, float, float, float]) -> None:
    N, R, M, seed, policy, link, concentration, where, call = case
    lut = random_lut(N, R, M, seed, policy, link, call)
    p_NR = random_p(lut, concentration, seed)
    networks = all_networks(p_NR, lut)
    fastest, slowest = (choose(t for _, t, _ in networks) for choose in (min, max))
    low_s, high_s = lut.feasible_range_s()
    assert low_s == pytest.approx(fastest, rel=1e-9)
    assert 0.999 * slowest - 1e-12 <= high_s <= slowest * (1 + 1e-12)
    target = fastest + where * (slowest - fastest)
    inside = sorted((score for score, t, _ in networks if 0.97 * target <= t <= target), reverse=True)
    found = list(itertools.islice(best_architectures(p_NR, lut, 0.97 * target, target), 5))
    assert [network.score for network in found] == pytest.approx(inside[:5], abs=1e-9)
    for network in found:
        assert network.optimal and 0.97 * target <= network.latency_s <= target
        own = best_split(lut.tau_NM(network.indices), lut.moves_LMM)[0]
        assert network.latency_s == own == pytest.approx(lut.latency_s(network.indices, network.placement))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(["strict", "relay", "stop-early"]),
    st.floats(0.1, 0.9),
    st.sampled_from([(0,), (2,), (0, 1), (0, 1, 2)]),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.3]),
)
def test_brute_force_agrees_under_limits_on_memory_and_energy(
    seed: int, policy: str, share: float, devices: tuple[int, ...], where: float, call: float
) -> None:
    lut = limited_lut(seed, policy, share, devices, call=call)
    p_NR, networks = random_p(lut, 3.0, seed), []
    for score, _, indices in all_networks(p_NR, replace(lut, states=(), moves_LMM=np.zeros((6, 3, 3)))):
        with suppress(InfeasibleError):
            networks.append((score, lut.best_split(indices)[0]))
    assume(networks)
    t_s = [t for _, t in networks]
    target = min(t_s) + where * (max(t_s) - min(t_s))
    inside = sorted((score for score, t in networks if 0.97 * target <= t <= target), reverse=True)
    found = list(itertools.islice(best_architectures(p_NR, lut, 0.97 * target, target), 3))
    assert [network.score for network in found] == pytest.approx(inside[:3], abs=1e-9)
    for network in found:
        assert network.optimal and lut.within_budgets(network.indices, network.placement)


@pytest.mark.parametrize("policy", ["strict", "relay"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("devices", [(0,), (0, 1, 2, 3)])
def test_binding_memory_is_proven_in_few_nodes(policy: str, share: float, devices: tuple[int, ...]) -> None:
    # 21 layers of 13 candidates on 4 devices; limits are shares of what the unlimited optimum uses.
    lut = limited_lut(2, policy, 1.0, (0, 1, 2, 3), (21, 13, 4))
    free = replace(lut, resources=())
    p_NR, (low_s, high_s) = random_p(lut, 1.0, 2), free.feasible_range_s()
    target = low_s + 0.3 * (high_s - low_s)
    best = derive(p_NR, free, 0.97 * target, target)
    assert best is not None
    (memory,) = lut.resources
    limit_M = np.full(4, np.inf)
    used_M = memory.budget(best.indices).used_M(best.placement)
    limit_M[list(devices)] = share * used_M[list(devices)]
    lut = replace(lut, resources=(replace(memory, limit_M=limit_M),))
    found = derive(p_NR, lut, 0.97 * target, target, max_nodes=2000)
    assert found is None or (found.optimal and found.score <= best.score)


def test_a_bad_cut_does_not_fill_the_band() -> None:
    # Two devices, strict. Layers 1 and 4 are fixed; layers 2 and 3 choose `quick` (1 s) or `slow` (4 s) on
    # the first device, a tenth of it on the second. Sending costs 1 s after layer 1, else 20 s. Quick
    # networks take 1 + 1 + 0.1 + 0.1 + 0.1 = 2.3 s under their best cut, and 23.1 s under a wasteful one:
    # inside the band [23, 24]. The likeliest network is the quick one, but none is honestly that slow.
    U_NRM = np.zeros((4, 2, 2))
    U_NRM[0, 0], U_NRM[3, 0] = [1.0, 0.1], [1.0, 0.1]
    U_NRM[1:3] = [[1.0, 0.1], [4.0, 0.4]]
    mask_NR = np.array([[True, False], [True, True], [True, True], [True, False]])
    epsilon_LM = np.array([[20.0, 0], [1, 0], [20, 0], [20, 0], [20, 0]])
    lut = ChainLUT(
        ("a", "b"), "strict", U_NRM, mask_NR, epsilon_LM, move_latencies_s(epsilon_LM, "strict"), epsilon_LM
    )
    p_NR = np.array([[1, 0], [0.9, 0.1], [0.9, 0.1], [1, 0]])
    assert argmax_architecture(p_NR, lut).latency_s == pytest.approx(2.3)
    assert derive(p_NR, lut, 23.0, 24.0) is None
    # Honest: quick-quick 2.3, one slow 2.6, both slow 2.9.
    assert lut.feasible_range_s() == pytest.approx((2.3, 2.9))
    found = derive(p_NR, lut, 2.5, 2.7)
    assert found is not None and found.latency_s == pytest.approx(2.6) and found.placement.cuts == (1, 4)


def test_without_a_band_the_likeliest_network_is_derived() -> None:
    lut = random_lut(6, 5, 3, 1)
    p_NR = random_p(lut, 1.0, 2)
    likeliest = argmax_architecture(p_NR, lut)
    found = derive(p_NR, lut, 0.0, 1e3)
    assert found is not None and found.indices == likeliest.indices


def test_cut_off_it_looks_around_and_says_how_far_it_may_be() -> None:
    lut = random_lut(24, 13, 4, 7)
    p_NR = random_p(lut, 100.0, 7)
    low_s, high_s = lut.feasible_range_s()
    target = low_s + 0.9 * (high_s - low_s)
    found = derive(p_NR, lut, 0.97 * target, target, max_nodes=5)
    assert found is not None and not found.optimal
    assert 0.97 * target <= found.latency_s <= target
    best = derive(p_NR, lut, 0.97 * target, target)
    assert best is not None and best.optimal and best.gap == 0
    assert found.score <= best.score <= found.bound == found.score + found.gap


def test_an_empty_band_and_an_unfinished_search_are_not_the_same() -> None:
    # The band of `test_a_bad_cut_does_not_fill_the_band` is proven empty; a limit of one node proves nothing.
    lut = random_lut(8, 5, 3, 7)
    p_NR = random_p(lut, 1.0, 7)
    low_s, _ = lut.feasible_range_s()
    assert derive(p_NR, lut, 0.5 * low_s, 0.9 * low_s) is None
    few = random_lut(3, 4, 2, 1)
    t_s = sorted(t for _, t, _ in all_networks(random_p(few, 1.0, 1), few))
    gap_s = max(range(3), key=lambda k: t_s[k + 1] - t_s[k])
    low_s, high_s = t_s[gap_s] + 1e-9, t_s[gap_s + 1] - 1e-9
    assert derive(random_p(few, 1.0, 1), few, low_s, high_s) is None
    with pytest.raises(SearchLimitError, match=r"was found in 1 nodes of the search, though one may exist"):
        derive(random_p(few, 1.0, 1), few, low_s, high_s, max_nodes=1)


def test_equally_likely_networks_are_found_and_proven_at_every_part_of_the_range() -> None:
    lut = random_lut(24, 13, 4, 7)
    p_NR = lut.mask_NR / lut.mask_NR.sum(axis=1, keepdims=True)
    low_s, high_s = lut.feasible_range_s()
    for where in (0.1, 0.5, 0.9, 0.97):
        target = low_s + where * (high_s - low_s)
        found = list(itertools.islice(best_architectures(p_NR, lut, 0.97 * target, target, 200), 5))
        assert len(found) == 5 == len({network.indices for network in found})
        assert all(network.optimal for network in found)


def test_the_size_of_the_imagenet_space() -> None:
    # N = 24, R = 13, M = 4: found and proven within the limit of nodes, at every part of the range.
    lut = random_lut(24, 13, 4, 7)
    p_NR = random_p(lut, 100.0, 7)
    low_s, high_s = lut.feasible_range_s()
    for where in (0.1, 0.5, 0.9):
        target = low_s + where * (high_s - low_s)
        found = derive(p_NR, lut, 0.97 * target, target)
        assert found is not None and found.optimal
