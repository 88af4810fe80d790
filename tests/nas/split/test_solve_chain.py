import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_luts import move_latencies_s
from worked_example import OUT_BYTES, RATE_MBPS, TAU_MS

from jmsnas.arrays import FloatArray
from jmsnas.errors import InfeasibleError
from jmsnas.nas.latency.policy import best_split
from jmsnas.nas.split.placement import Placement, chain_latency
from jmsnas.nas.split.solve_chain import DeviceLimits, ResourceBudget, range_min, range_min_table, solve_chain

TAU_NM = np.array(TAU_MS)


def worked_epsilon(input_bytes: int) -> FloatArray:
    epsilon_LM = np.zeros((10, 4))
    for m, rate in enumerate(RATE_MBPS):
        epsilon_LM[:, m] = [8 * size / rate / 1000 for size in [input_bytes, *OUT_BYTES[1:]]]
    return epsilon_LM


def at_least(first: int, N: int = 9, M: int = 4) -> DeviceLimits:
    return DeviceLimits(np.array([first] + [0] * (M - 1)), np.full(M, N))


@pytest.mark.parametrize(
    ("policy", "limits", "input_bytes", "cuts", "t_ms"),
    [
        ("strict", None, 150528, (4, 7, 8, 9), 155.249040),
        ("relay", None, 150528, (0, 9, 9, 9), 58.378960),
        ("relay", None, 602112, (4, 9, 9, 9), 148.262640),
        ("relay", at_least(1), 150528, (4, 9, 9, 9), 148.262640),
    ],
)
def test_the_worked_splits(
    policy: str, limits: DeviceLimits | None, input_bytes: int, cuts: tuple[int, ...], t_ms: float
) -> None:
    latency_ms, placement = solve_chain(TAU_NM, worked_epsilon(input_bytes), policy, limits)
    assert placement.cuts == cuts
    assert latency_ms == pytest.approx(t_ms, abs=5e-7)


def test_the_way_back_of_the_result() -> None:
    # 4000 bytes of logits over 200, 50 and 25 Mbit/s: 0.16 + 0.64 + 1.28 = 2.08 ms.
    return_M = np.array([0, 1.28, 1.92, 2.08])
    latency_ms, placement = solve_chain(TAU_NM, worked_epsilon(150528), "relay", None, return_M)
    assert placement.cuts == (0, 9, 9, 9) and latency_ms == pytest.approx(58.378960 + 2.08, abs=5e-7)
    # Stopping early on the SBS saves sending the logits on (0.8 ms) and two links of the way back.
    latency_ms, placement = solve_chain(TAU_NM, worked_epsilon(150528), "stop-early", None, return_M)
    assert placement.cuts == (0, 9, 9, 9) and latency_ms == pytest.approx(58.378960 - 0.8 + 1.28, abs=5e-7)


def test_a_call_is_counted_once_for_a_device_with_layers() -> None:
    # Two layers of 1 s anywhere; the links cost 0.1 s and 0.2 s after any output. The second device is called
    # for 0.5 s, the others for 2 s: it runs both layers, 0.1 + 0.5 + 2 + 0.2 = 2.8 s, since the first and the
    # last run none.
    tau_NM, epsilon_LM = np.ones((2, 3)), np.tile([0.1, 0.2, 0.0], (3, 1))
    call_M = np.array([2.0, 0.5, 2.0])
    latency_s, placement = solve_chain(tau_NM, epsilon_LM, "relay", call_M=call_M)
    assert latency_s == pytest.approx(2.8) and placement.cuts == (0, 2, 2)
    # Without calls the first, 2 + 0.1 + 0.2; where it may stay there, 2 s, or 4 s with its call.
    assert solve_chain(tau_NM, epsilon_LM, "stop-early")[0] == 2.0
    assert solve_chain(tau_NM, epsilon_LM, "stop-early", call_M=call_M)[0] == pytest.approx(2.6)


def random_limits(random: np.random.Generator, N: int, M: int) -> DeviceLimits:
    """Limits of every kind, each on some devices."""
    some = random.random((2, M)) < 0.4
    least_M = np.where(some[0], random.integers(0, N + 1, M), 0)
    most_M = np.where(some[1], random.integers(0, N + 1, M), N)
    budgets = []
    for _ in range(int(random.integers(0, 3))):
        sizes = random.uniform(0, 1, (3, N + 1, M))
        limit_M = np.where(random.random(M) < 0.5, random.uniform(0, N, M), np.inf)
        budgets.append(ResourceBudget(sizes[0, :N], sizes[1, :N], 0.3 * sizes[2], limit_M))
    return DeviceLimits(least_M, most_M, tuple(budgets))


def brute_force(
    tau_NM: FloatArray,
    epsilon_LM: FloatArray,
    policy: str,
    limits: DeviceLimits,
    return_M: FloatArray,
    call_M: FloatArray,
) -> float:
    N, M = tau_NM.shape
    best, early = np.inf, policy == "stop-early"
    for inner in itertools.combinations_with_replacement(range(N + 1), M - 1):
        placement = Placement((*inner, N))
        counts = np.array([len(layers) for layers in placement.layers])
        least_M = np.maximum(limits.min_layers_M, policy == "strict")
        if (counts < least_M).any() or (counts > limits.max_layers_M).any():
            continue
        # Where the result stays early, the devices behind have neither layers nor anything to send.
        if all(budget.holds(placement, early) for budget in limits.budgets):
            end = placement.cuts.index(N) if early else M - 1
            calls_s = call_M[counts > 0].sum()
            best = min(best, chain_latency(tau_NM, epsilon_LM, placement, early) + return_M[end] + calls_s)
    return best


@settings(max_examples=2000)
@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from(["strict", "relay", "stop-early"]),
    st.integers(0, 2**32),
    st.sampled_from([0.01, 1.0, 100.0]),
    st.booleans(),
)
def test_brute_force_agrees(N: int, M: int, policy: str, seed: int, link: float, has_limits: bool) -> None:
    random = np.random.default_rng(seed)
    tau_NM = random.uniform(0.1, 1, (N, M)) * random.uniform(0.1, 1, M)
    epsilon_LM = link * random.uniform(0, 1, (N + 1, M))
    epsilon_LM[:, M - 1] = 0
    return_M = np.concatenate([[0.0], np.cumsum(random.uniform(0, link, M - 1))])
    limits = (
        random_limits(random, N, M) if has_limits else DeviceLimits(np.zeros(M, dtype=int), np.full(M, N))
    )
    call_M = random.choice([0.0, 0.1, 3.0]) * random.integers(0, 2, M) * random.uniform(0.1, 1, M)
    best = brute_force(tau_NM, epsilon_LM, policy, limits, return_M, call_M)
    if np.isinf(best):
        with pytest.raises(InfeasibleError, match=f"no split of {N} layers over {M} devices is allowed"):
            solve_chain(tau_NM, epsilon_LM, policy, limits, return_M, call_M)
        return
    latency_s, placement = solve_chain(tau_NM, epsilon_LM, policy, limits, return_M, call_M)
    early = policy == "stop-early"
    end = placement.cuts.index(N) if early else M - 1
    assert latency_s == pytest.approx(best, rel=1e-9)
    assert latency_s == pytest.approx(
        chain_latency(tau_NM, epsilon_LM, placement, early, call_M) + return_M[end], rel=1e-9
    )
    assert all(budget.holds(placement, early) for budget in limits.budgets)
    if not has_limits:
        layer_by_layer = best_split(tau_NM, move_latencies_s(epsilon_LM, policy))[0]
        alone = solve_chain(tau_NM, epsilon_LM, policy)[0]
        assert alone == pytest.approx(layer_by_layer, rel=1e-9)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.data())
def test_the_least_of_a_window(values: list[float], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(values) - 1))
    last = data.draw(st.integers(-1, len(values) - 1))
    found = range_min(range_min_table(np.array(values)), np.array([first]), np.array([last]))
    assert found[0] == min(values[first : last + 1], default=np.inf)


def test_what_a_placement_uses_by_hand() -> None:
    # Device 0 runs layers 1 and 2: 1 + 2 used, the larger peak 5, 7 for sending output 2.
    columns = np.array([[1.0, 4], [2, 4], [3, 4]])
    peaks = np.array([[5.0, 1], [4, 1], [9, 1]])
    sent = np.array([[9.0, 0], [9, 0], [7, 0], [9, 0]])
    budget = ResourceBudget(columns, peaks, sent, np.array([15.0, np.inf]))
    assert budget.used_M(Placement((2, 3))).tolist() == [15, 5]
    assert budget.holds(Placement((2, 3))) and not budget.holds(Placement((3, 3)))
    # All three layers: 6 + 9 + 9 = 24 with sending, 15 where the result stays.
    assert budget.holds(Placement((3, 3)), stop_early=True)


@pytest.mark.parametrize("policy", ["relay", "stop-early"])
def test_a_limit_met_exactly_is_met(policy: str) -> None:
    # 0.1 + 0.2 is 0.30000000000000004 in binary: not more than a limit of 0.3.
    budget = ResourceBudget(np.array([[0.1], [0.2]]), np.zeros((2, 1)), np.zeros((3, 1)), np.array([0.3]))
    limits = DeviceLimits(np.array([0]), np.array([2]), (budget,))
    assert solve_chain(np.ones((2, 1)), np.zeros((3, 1)), policy, limits) == (2.0, Placement((2,)))
