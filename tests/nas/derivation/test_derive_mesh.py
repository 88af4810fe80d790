import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from synthetic_luts import random_mesh, random_p

from jmsnas.nas.derivation.derive import argmax_architecture, best_architectures, derive
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.split.placement import Placement


def all_placements(lut: MeshLUT) -> list[Placement]:
    """Every cut of the line and every way to give branches their children that policy strict allows."""
    (n, m), M, N = lut.main_path.joint or (0, 0), len(lut.main_path.devices), len(lut.main_path_layers)
    before = list(itertools.combinations(range(1, n), m - 1))
    behind = list(itertools.combinations(range(n + 1, N), M - m - 1))
    B = len(lut.branch_layers)
    ways = itertools.permutations(range(len(lut.children)), B)
    orders = itertools.permutations(range(B)) if lut.fan_out == "serial" else [()]
    return [
        Placement((*cuts, n, *others, N), way, order)
        for cuts, others, way, order in itertools.product(before, behind, ways, orders)
    ]


def all_networks(p_NR: NDArray[np.float64], lut: MeshLUT) -> list[tuple[float, float]]:
    """(score, own least T) of every network there is, over every placement."""
    placements, found = all_placements(lut), []
    for indices in itertools.product(*[np.flatnonzero(row).tolist() for row in lut.mask_NR]):
        score = float(np.log(p_NR[np.arange(len(indices)), list(indices)]).sum())
        best_s, placement = lut.best_split(indices)
        least_s = min(lut.latency_s(indices, placement) for placement in placements)
        assert best_s == pytest.approx(least_s, rel=1e-9)
        found.append((score, best_s))
    return found


cases = st.tuples(
    st.sampled_from([(2, 2, (1, 1)), (1, 1, (1, 2)), (1, 1, (2, 1, 1)), (2, 1, (1,)), (1, 2, (2, 2))]),
    st.integers(2, 3),
    st.integers(0, 2**32),
    st.booleans(),
    st.sampled_from(["broadcast", "serial"]),
    st.sampled_from([0.05, 1.0, 10.0]),
    st.floats(0, 1.05),
    st.sampled_from([0.0, 0.3, 3.0]),
)


@settings(max_examples=60)
@given(cases)
def test_brute_force_agrees(
    case: tuple[tuple[int, int, tuple[int, ...]], int, int, bool, str, float, float, float],
) -> None:
    (trunk, tail, lengths), R, seed, alike, fan_out, link, where, call = case
    lut = random_mesh(trunk + 1, lengths, tail + 1, R, seed, alike, fan_out, link, call)
    p_NR = random_p(lut, 3.0, seed)
    networks = all_networks(p_NR, lut)
    fastest, slowest = (choose(t for _, t in networks) for choose in (min, max))
    low_s, high_s = lut.feasible_range_s()
    assert low_s == pytest.approx(fastest, rel=1e-9)
    assert 0.998 * slowest <= high_s <= slowest * (1 + 1e-12)
    target = fastest + where * (slowest - fastest)
    inside = sorted((score for score, t in networks if 0.97 * target <= t <= target), reverse=True)
    found = list(itertools.islice(best_architectures(p_NR, lut, 0.97 * target, target), 5))
    assert [network.score for network in found] == pytest.approx(inside[:5], abs=1e-9)
    for network in found:
        assert network.optimal and 0.97 * target <= network.latency_s <= target
        assert network.latency_s == lut.best_split(network.indices)[0]
        assert network.latency_s == pytest.approx(lut.latency_s(network.indices, network.placement))


def test_without_a_band_the_likeliest_network_is_derived() -> None:
    lut = random_mesh(3, (2, 2, 2), 3, 5, 1, False)
    p_NR = random_p(lut, 1.0, 2)
    found = derive(p_NR, lut, 0.0, 1e3)
    assert found is not None and found.indices == argmax_architecture(p_NR, lut).indices


def test_a_bad_choice_of_children_does_not_fill_the_band() -> None:
    # Two branches of one layer: `long` takes 8 s on child 0 and 2 s on child 1, `short` 1 s on both. Given
    # to the wrong children they take 8 s, which a band at 8 s would take; honestly they take 2 s.
    lut = random_mesh(2, (1, 1), 2, 2, 0, True)
    U_NRM, mask_NR = np.zeros_like(lut.U_NRM), np.zeros_like(lut.mask_NR)
    mask_NR[:, 0] = True
    U_NRM[2, 0, list(lut.children)] = [8.0, 2.0]
    U_NRM[3, 0, list(lut.children)] = [1.0, 1.0]
    line = replace(
        lut.main_path, U_NRM=np.zeros_like(lut.main_path.U_NRM), mask_NR=mask_NR[list(lut.main_path_layers)]
    )
    none_K = np.zeros(2)
    lut = replace(lut, U_NRM=U_NRM, mask_NR=mask_NR, main_path=line, epsilon_root_K=none_K, epsilon_K=none_K)
    p_NR = mask_NR * 1.0
    moved_s = line.best_split((0,) * 4)[0]
    assert derive(p_NR, lut, moved_s + 7.5, moved_s + 8.0) is None
    found = derive(p_NR, lut, moved_s + 1.9, moved_s + 2.1)
    assert found is not None and found.placement.children == (1, 0)


@pytest.mark.parametrize("alike", [True, False])
def test_the_size_of_the_imagenet_space(alike: bool) -> None:
    # 24 layers of 13 candidates, three branches of four: found and proven at every part of the range.
    lut = random_mesh(6, (4, 4, 4), 6, 13, 7, alike)
    p_NR = random_p(lut, 100.0, 7)
    low_s, high_s = lut.feasible_range_s()
    for where in (0.1, 0.5, 0.9):
        target = low_s + where * (high_s - low_s)
        found = derive(p_NR, lut, 0.97 * target, target)
        assert found is not None and found.optimal
