import numpy as np
import pytest
from brute_force_splits import all_terms, random_chain

from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.placement import Placement, chain_latency
from jmsnas.nas.split.solve_chain import DeviceLimits
from jmsnas.nas.split.throughput import chain_period, min_latency_within_period, solve_throughput


@pytest.mark.parametrize("policy", ["strict", "relay", "stop-early"])
def test_brute_force_agrees(policy: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(700):
        M = int(rng.integers(1, 5))
        N = int(rng.integers(M, 8))
        min_layers = int(rng.integers(0, N - M + 2))
        tau_NM, epsilon_LM = random_chain(rng, N, M)
        call_M = rng.choice([0.0, 0.3, 3.0]) * rng.uniform(0, 1, M)
        _, tau_KM, epsilon_KM = all_terms(tau_NM, epsilon_LM, policy, min_layers, call_M)
        limits = DeviceLimits(np.array([min_layers] + [0] * (M - 1)), np.full(M, N))
        periods = np.maximum(tau_KM, epsilon_KM).max(axis=1)
        latencies = (tau_KM + epsilon_KM).sum(axis=1)
        stop_early, least = policy == "stop-early", periods.min()
        period_s, placement = solve_throughput(tau_NM, epsilon_LM, policy, limits, call_M)
        assert period_s == pytest.approx(least, rel=1e-9)
        assert chain_period(tau_NM, epsilon_LM, placement, stop_early, call_M) == pytest.approx(
            least, rel=1e-9
        )
        # Among those of least period, none has a lower T.
        lowest = latencies[periods <= least * (1 + 1e-12)].min()
        assert chain_latency(tau_NM, epsilon_LM, placement, stop_early, call_M) == pytest.approx(
            lowest, rel=1e-9
        )
        bound = float(np.quantile(periods, 0.3)) * (1 + 1e-9)
        latency_s, _ = min_latency_within_period(tau_NM, epsilon_LM, policy, bound, limits, call_M=call_M)
        assert latency_s == pytest.approx(latencies[periods <= bound].min(), rel=1e-9)


def test_a_period_by_hand() -> None:
    # Two layers of 3 and 2 s on either device; the link takes 4 s of the raw input, 1 s after layer 1, 0 s
    # after layer 2. Cuts (0, 2): max(0, 4, 5); (1, 2): max(3, 1, 2) = 3; (2, 2): max(5, 0, 0).
    tau_NM, epsilon_LM = np.array([[3.0, 3.0], [2.0, 2.0]]), np.array([[4.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert solve_throughput(tau_NM, epsilon_LM, "relay") == (3.0, Placement((1, 2)))
    # With T = 3 + 1 + 2 = 6 it is slower than (2, 2), T = 5, which a period of 5 s allows.
    assert min_latency_within_period(tau_NM, epsilon_LM, "relay", 5.0) == (5.0, Placement((2, 2)))


def test_nothing_allowed() -> None:
    tau_NM, epsilon_LM = np.ones((2, 3)), np.zeros((3, 3))
    with pytest.raises(
        InfeasibleError, match="no split of 2 layers over 3 devices is allowed by policy strict"
    ):
        solve_throughput(tau_NM, epsilon_LM, "strict")
    with pytest.raises(
        InfeasibleError, match=r"takes an image every 500 ms under the policy relay: expected a"
    ):
        min_latency_within_period(tau_NM, epsilon_LM, "relay", 0.5)
