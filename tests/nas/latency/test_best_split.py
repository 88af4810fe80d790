import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from worked_example import OUT_BYTES, RATE_MBPS, TAU_MS

from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.nas.latency.policy import best_split, move_latencies_s
from jmsnas.nas.split.placement import Placement, chain_latency, placement_from_devices

TAU_NM = np.array(TAU_MS)


def worked_epsilon(input_bytes: int) -> NDArray[np.float64]:
    epsilon_LM = np.zeros((10, 4))
    for m, rate in enumerate(RATE_MBPS):
        epsilon_LM[:, m] = [8 * size / rate / 1000 for size in [input_bytes, *OUT_BYTES[1:]]]
    return epsilon_LM


@pytest.mark.parametrize(
    ("policy", "input_bytes", "cuts", "t_ms"),
    [
        ("strict", 150528, (4, 7, 8, 9), 155.249040),
        ("strict", 602112, (4, 7, 8, 9), 155.249040),
        ("relay", 150528, (0, 9, 9, 9), 58.378960),
        ("relay", 602112, (4, 9, 9, 9), 148.262640),
    ],
)
def test_the_worked_splits(policy: str, input_bytes: int, cuts: tuple[int, ...], t_ms: float) -> None:
    latency_ms, placement = best_split(TAU_NM, move_latencies_s(worked_epsilon(input_bytes), policy))
    assert placement.cuts == cuts
    assert latency_ms == pytest.approx(t_ms, abs=5e-7)


def brute_force(
    tau_NM: NDArray[np.float64], epsilon_LM: NDArray[np.float64], policy: str
) -> tuple[float, Placement]:
    N, M = tau_NM.shape
    found = []
    for inner in itertools.combinations_with_replacement(range(N + 1), M - 1):
        placement = Placement((*inner, N))
        if policy == "strict" and any(len(layers) == 0 for layers in placement.layers):
            continue
        found.append((chain_latency(tau_NM, epsilon_LM, placement, policy == "stop-early"), placement))
    return min(found, key=lambda pair: pair[0])


@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from(["strict", "relay", "stop-early"]),
    st.integers(0, 2**32),
    st.sampled_from([0.01, 1.0, 100.0]),
)
def test_brute_force_agrees(N: int, M: int, policy: str, seed: int, link: float) -> None:
    random = np.random.default_rng(seed)
    tau_NM = random.uniform(0.1, 1, (N, M)) * random.uniform(0.1, 1, M)
    epsilon_LM = link * random.uniform(0, 1, (N + 1, M))
    epsilon_LM[:, M - 1] = 0
    if policy == "strict" and M > N:
        with pytest.raises(InfeasibleError, match=f"no split of {N} layers over {M} devices is allowed"):
            best_split(tau_NM, move_latencies_s(epsilon_LM, policy))
        return
    latency_s, placement = best_split(tau_NM, move_latencies_s(epsilon_LM, policy))
    assert latency_s == pytest.approx(brute_force(tau_NM, epsilon_LM, policy)[0], rel=1e-9)
    assert latency_s == pytest.approx(
        chain_latency(tau_NM, epsilon_LM, placement, policy == "stop-early"), rel=1e-9
    )


@given(st.integers(0, 2**32), st.integers(0, 2), st.floats(0, 5))
def test_t_never_falls_when_a_link_slows(seed: int, link: int, extra_s: float) -> None:
    random = np.random.default_rng(seed)
    tau_NM, epsilon_LM = random.uniform(0, 1, (6, 4)), random.uniform(0, 1, (7, 4))
    epsilon_LM[:, 3] = 0
    before = best_split(tau_NM, move_latencies_s(epsilon_LM, "relay"))[0]
    epsilon_LM[:, link] += extra_s
    assert best_split(tau_NM, move_latencies_s(epsilon_LM, "relay"))[0] >= before - 1e-12


def test_placement_in_the_papers_letters() -> None:
    placement = Placement((3, 3, 7, 9))
    assert [list(layers) for layers in placement.layers] == [[1, 2, 3], [], [4, 5, 6, 7], [8, 9]]
    assert placement.devices == (0, 0, 0, 2, 2, 2, 2, 3, 3)
    assert placement_from_devices(placement.devices, 4) == placement


def test_what_no_placement_can_be() -> None:
    with pytest.raises(TopologyError, match=r"cuts \(3, 2\) of a chain decrease"):
        Placement((3, 2))
    with pytest.raises(TopologyError, match=r"devices \(1, 0\) of a chain decrease"):
        placement_from_devices((1, 0), 2)
