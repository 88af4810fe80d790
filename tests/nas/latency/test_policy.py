import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from roofline_predictor import Roofline
from synthetic_luts import move_latencies_s, random_p
from worked_example import OUT_BYTES, RATE_MBPS, TAU_MS

from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.nas.derivation.derive import best_architectures, derive
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.latency.policy import allowed_moves, best_split, concatenate_moves
from jmsnas.nas.split.placement import Placement, chain_latency, placement_from_devices
from jmsnas.nas.split.solve_chain import DeviceLimits, solve_chain
from jmsnas.profiler.simulation.roofline import load_simulated_device
from jmsnas.space_file import load_space
from jmsnas.topology import Topology, load_topology

TOPOLOGY, SPACE = load_topology("chain"), load_space("digits")
PREDICTORS = {device.name: Roofline(load_simulated_device(device.table)) for device in TOPOLOGY.devices}


@settings(max_examples=300)
@given(
    st.integers(1, 7),
    st.integers(1, 4),
    st.sampled_from(["strict", "relay", "stop-early"]),
    st.integers(0, 2**32),
)
def test_moves_between_states_hold_the_limits_on_layers(N: int, M: int, policy: str, seed: int) -> None:
    # The layer-by-layer DP over states and the DP over cuts, which a brute force agrees with, are equal.
    random = np.random.default_rng(seed)
    tau_NM, epsilon_LM = random.uniform(0.1, 1, (N, M)), random.uniform(0, 1, (N + 1, M))
    epsilon_LM[:, M - 1] = 0
    some = random.random((2, M)) < 0.5
    limits = DeviceLimits(
        np.where(some[0], random.integers(0, 3, M), 0), np.where(some[1], random.integers(0, N + 1, M), N)
    )
    back_M = np.cumsum(random.uniform(0, 1, M))
    call_M = random.choice([0.0, 1.0]) * random.uniform(0, 1, M)
    devices, moves_LSS = concatenate_moves((allowed_moves(epsilon_LM, policy, limits, back_M, call_M),))
    try:
        latency_s, placement = solve_chain(tau_NM, epsilon_LM, policy, limits, back_M, call_M)
    except InfeasibleError:
        with pytest.raises(InfeasibleError, match="is allowed by the policy"):
            best_split(tau_NM[:, list(devices)], moves_LSS)
        return
    by_layer_s, path = best_split(tau_NM[:, list(devices)], moves_LSS)
    assert by_layer_s == pytest.approx(latency_s, rel=1e-9)
    ran = np.bincount([devices[state] for state in path.devices], minlength=M)
    assert (ran == [len(layers) for layers in placement.layers]).all()


def chain(topology: Topology = TOPOLOGY, split: str = "joint") -> ChainLUT:
    lut = build_lut(SPACE, topology, PREDICTORS, split)
    assert isinstance(lut, ChainLUT)
    return lut


def with_device(topology: Topology, name: str, **limits: object) -> Topology:
    devices = tuple(replace(d, **limits) if d.name == name else d for d in topology.devices)
    return replace(topology, devices=devices)


def uniform(lut: ChainLUT) -> np.ndarray:
    return lut.mask_NR / lut.mask_NR.sum(1, keepdims=True)


def middle(lut: ChainLUT) -> float:
    return sum(lut.feasible_range_s()) / 2


def test_the_raw_image_never_leaves_the_ue() -> None:
    relay = replace(TOPOLOGY, policy="relay")
    indices = (0,) * SPACE.N
    assert chain(relay).best_split(indices)[1].cuts[0] == 0
    private = chain(with_device(relay, "pi4", min_layers=3, max_layers=5))
    latency_s, placement = private.best_split(indices)
    assert placement.cuts[0] == 5  # the cheapest to send of the three that are allowed
    assert latency_s == pytest.approx(private.latency_s(indices, placement), rel=1e-12)
    target, p_NR = middle(private), random_p(private, 1.0, 3)
    for network in itertools.islice(best_architectures(p_NR, private, 0.97 * target, target), 3):
        assert network.optimal and 3 <= network.placement.cuts[0] <= 5
        every = [Placement((a, b, c, 12)) for a in (3, 4, 5) for b in range(a, 13) for c in range(b, 13)]
        least_s = min(private.latency_s(network.indices, cuts) for cuts in every)
        assert network.latency_s == pytest.approx(least_s, rel=1e-9)


def test_calls_are_counted_by_the_chain_its_fixed_split_and_cloud_only() -> None:
    devices = tuple(replace(device, call_s=1e-3 * 2**m) for m, device in enumerate(TOPOLOGY.devices))
    topology = replace(TOPOLOGY, devices=devices, policy="relay")
    free, called = chain(replace(TOPOLOGY, policy="relay")), chain(topology)
    indices, placement = (0,) * SPACE.N, Placement((3, 3, 9, 12))
    extra_s = called.latency_s(indices, placement) - free.latency_s(indices, placement)
    assert extra_s == pytest.approx(1e-3 + 4e-3 + 8e-3, rel=1e-9)  # the second device runs no layer
    assert [term.call_s for term in called.terms(indices, placement)] == [1e-3, 0, 4e-3, 8e-3]
    assert called.cloud_only(indices)[0] == pytest.approx(free.cloud_only(indices)[0] + 8e-3, rel=1e-12)
    fixed = chain(replace(topology, policy="strict"), "fixed")
    latency_s, only = fixed.best_split(indices)
    assert latency_s == pytest.approx(free.latency_s(indices, only) + 15e-3, rel=1e-9)
    p_NR = uniform(fixed)
    expected_s = (p_NR * fixed.expected(p_NR).gradient_p_NR).sum()
    unpaid = chain(TOPOLOGY, "fixed").expected(p_NR).latency_s
    assert fixed.expected(p_NR).latency_s == pytest.approx(unpaid + 15e-3, rel=1e-9) and expected_s > 0


def test_an_energy_limit_is_kept_by_the_derived_network() -> None:
    powered = with_device(replace(TOPOLOGY, policy="relay"), "pi4", power_w=5.0, send_power_w=0.5)
    free = chain(powered)
    target = middle(free)
    found = derive(uniform(free), free, 0.97 * target, target)
    assert found is not None
    term = free.terms(found.indices, found.placement)[0]
    assert term.energy_j == pytest.approx(5.0 * term.tau_s + 0.5 * term.epsilon_s)
    # Half of what a network takes that runs on the UE alone.
    on_ue = Placement((12,) * 4)
    all_on_ue = free.terms(found.indices, on_ue)[0].energy_j
    assert all_on_ue is not None and not free.limited
    limited = chain(with_device(powered, "pi4", min_layers=1, energy_j=all_on_ue / 2))
    assert limited.limited and not limited.within_budgets(found.indices, on_ue)
    target = middle(limited)
    network = derive(uniform(limited), limited, 0.97 * target, target, max_nodes=500)
    assert network is not None and network.optimal
    used = limited.terms(network.indices, network.placement)[0].energy_j
    assert used is not None and used <= all_on_ue / 2


def test_a_fixed_split_by_the_network_or_in_equal_parts() -> None:
    equal = chain(split="fixed")
    indices = (0,) * SPACE.N
    assert equal.best_split(indices)[1].cuts == (3, 6, 9, 12)
    assert equal.best_split(indices)[0] == pytest.approx(equal.latency_s(indices, Placement((3, 6, 9, 12))))
    given = chain(with_device(TOPOLOGY, "pi4", layers=1), "fixed")
    assert given.best_split(indices)[1].cuts == (1, 5, 9, 12)
    target = middle(equal)
    found = derive(uniform(equal), equal, 0.97 * target, target)
    assert found is not None and found.optimal and found.placement.cuts == (3, 6, 9, 12)
    heavy = chain(with_device(TOPOLOGY, "pi4", memory_bytes=10.0), "fixed")
    with pytest.raises(InfeasibleError, match="the fixed split exceeds a device's memory or energy"):
        heavy.best_split(indices)


def test_policies_that_contradict_the_space() -> None:
    with pytest.raises(TopologyError, match=r"must run 13 layers together \(policy strict and min_layers\)"):
        chain(with_device(TOPOLOGY, "pi4", min_layers=10))
    few = replace(TOPOLOGY, devices=tuple(replace(d, max_layers=2) for d in TOPOLOGY.devices))
    with pytest.raises(TopologyError, match=r"may run 8 layers together \(max_layers\), space digits has 12"):
        chain(few)
    layers = replace(TOPOLOGY, devices=tuple(replace(d, layers=4) for d in TOPOLOGY.devices))
    with pytest.raises(TopologyError, match="16 layers together, there are 12 for them: change `layers` of"):
        chain(layers, "fixed")
    with pytest.raises(TopologyError, match="a fixed split gives cloud 3 layers, its limits are 4 to 12"):
        chain(with_device(TOPOLOGY, "cloud", min_layers=4), "fixed")
    with pytest.raises(TopologyError, match=r"the fixed split gives \[0, 4, 4, 4\] layers to pi4, laptop"):
        chain(with_device(TOPOLOGY, "pi4", layers=0), "fixed")
    with pytest.raises(TopologyError, match="topology chain has no device 'toaster': expected one of pi4, l"):
        TOPOLOGY.device("toaster")


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
