from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worked_example import OUT_BYTES, RATE_MBPS, TAU_MS

from jmsnas.errors import TopologyError
from jmsnas.latency import Branch, completion_latency, maximum


def chain_ms(cuts: tuple[int, ...], input_bytes: int = 150528) -> float:
    sizes = [input_bytes, *OUT_BYTES[1:]]
    tau = [sum(TAU_MS[n][m] for n in range(a, b)) for m, (a, b) in enumerate(pairwise((0, *cuts)))]
    epsilon = [8 * sizes[cut] / rate / 1000 for cut, rate in zip(cuts, RATE_MBPS, strict=False)] + [0.0]
    return float(completion_latency(tau, epsilon))


@pytest.mark.parametrize(
    ("cuts", "input_bytes", "expected_ms"),
    [
        ((3, 5, 7, 9), 150528, 195.670480),  # D = {1-3}, {4-5}, {6-7}, {8-9}
        ((0, 0, 0, 9), 150528, 82.444560),  # cloud only, uint8 input
        ((0, 0, 0, 9), 602112, 317.268240),  # cloud only, float32 input
        ((4, 7, 8, 9), 150528, 155.249040),  # the best that uses every device
        ((0, 9, 9, 9), 150528, 58.378960),  # the best with relays
        ((4, 9, 9, 9), 602112, 148.262640),  # the best with relays, float32 input
    ],
)
def test_equation_1_worked(cuts: tuple[int, ...], input_bytes: int, expected_ms: float) -> None:
    assert chain_ms(cuts, input_bytes) == pytest.approx(expected_ms, abs=5e-7)


# Fig. 2(b): UE {1-3}, root SBS {4-5}, branches of 32/48/64 channels on devices 3, 4, 5, cloud {8, 9}.
UE_AND_CLOUD = ([82.3, 0.54], [96.337920, 0.0])
BRANCHES = [
    Branch(8.028160, 1.400 + 1.100, 0.250880),
    Branch(8.028160, 2.188 + 1.625, 0.376320),
    Branch(8.028160, 1.680 + 1.280, 0.501760),
]


def test_equation_2_worked() -> None:
    assert completion_latency(*UE_AND_CLOUD, 2.62, BRANCHES) == pytest.approx(194.015400, abs=5e-7)
    assert completion_latency(*UE_AND_CLOUD, 2.62, BRANCHES, "serial") == pytest.approx(209.344160, abs=5e-7)


def test_one_child_makes_equation_2_equal_to_1() -> None:
    mesh = completion_latency([82.3, 0.54], [96.3, 0.0], 2.62, [Branch(8.0, 2.5, 0.25)])
    chain = completion_latency([82.3, 2.62, 2.5, 0.54], [96.3, 8.0, 0.25, 0.0])
    assert mesh == pytest.approx(chain, rel=1e-12)


def test_without_children_the_root_is_counted_alone() -> None:
    assert completion_latency([1.0], [2.0], 3.0) == 6.0


def test_arrays_are_many_plans_at_once() -> None:
    slower = np.array([1.0, 2.0, 10.0])
    plans = [Branch(b.epsilon_root_s, b.tau_s * slower, b.epsilon_s) for b in BRANCHES]
    got = completion_latency(*UE_AND_CLOUD, 2.62, plans)
    one_by_one = [
        completion_latency(
            *UE_AND_CLOUD, 2.62, [Branch(b.epsilon_root_s, b.tau_s * s, b.epsilon_s) for b in BRANCHES]
        )
        for s in slower
    ]
    np.testing.assert_allclose(got, one_by_one, rtol=1e-12)


def test_tensors_give_a_gradient() -> None:
    tau = torch.tensor([1.4, 2.188, 1.68], dtype=torch.float64, requires_grad=True)
    branches = [Branch(b.epsilon_root_s, tau[i], b.epsilon_s) for i, b in enumerate(BRANCHES)]
    completion_latency(*UE_AND_CLOUD, 2.62, branches).backward()
    # Sums 9.68, 10.59, 10.21: only the second branch is on the longest path.
    assert tau.grad is not None and tau.grad.tolist() == [0.0, 1.0, 0.0]
    assert maximum(tau[0], 5.0).item() == 5.0 and maximum(5.0, tau[0]).item() == 5.0


seconds = st.floats(0, 10)


@given(
    st.lists(st.tuples(seconds, seconds, seconds), min_size=1, max_size=5),
    seconds,
    seconds,
    st.integers(0, 99),
)
def test_t_never_falls_when_a_link_slows(
    branches: list[tuple[float, float, float]], root: float, extra: float, which: int
) -> None:
    before = [Branch(*branch) for branch in branches]
    i = which % len(before)
    after = [
        Branch(b.epsilon_root_s + extra, b.tau_s, b.epsilon_s) if j == i else b for j, b in enumerate(before)
    ]
    for fan_out in ("broadcast", "serial"):
        fast = completion_latency([1.0], [1.0], root, before, fan_out)
        assert fast <= completion_latency([1.0], [1.0], root, after, fan_out)
        assert completion_latency([1.0], [1.0], root, before) <= completion_latency(
            [1.0], [1.0], root, before, "serial"
        )


def test_lengths_must_agree() -> None:
    with pytest.raises(TopologyError, match="got 2 tau for 1 epsilon"):
        completion_latency([1.0, 2.0], [0.0])
