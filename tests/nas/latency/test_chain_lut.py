import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic_luts import random_lut, random_mesh, random_p

from jmsnas.device import Device
from jmsnas.nas.latency.fixed_split import fixed_split
from jmsnas.nas.latency.policy import best_split
from jmsnas.nas.supernet.latency_loss import penalty_gradient_alpha


@given(st.integers(0, 2**32), st.sampled_from(["strict", "relay", "stop-early"]))
def test_the_gradient_of_the_penalty_equals_autograd(seed: int, policy: str) -> None:
    lut = random_lut(6, 4, 3, seed, policy)
    p_NR = random_p(lut, 2.0, seed)
    found = lut.expected(p_NR)
    t_const_s = 0.8 * found.latency_s
    # The same at the best cuts, by autograd through softmax.
    alpha = torch.log(torch.tensor(p_NR)).clone().requires_grad_()
    p = torch.softmax(alpha, 1)
    U = torch.tensor(found.gradient_p_NR)
    fixed = found.latency_s - float((torch.tensor(p_NR) * U).sum())
    latency = (p * U).sum() + fixed
    ((latency / t_const_s - 1) ** 2).backward()  # type: ignore[no-untyped-call]
    assert alpha.grad is not None
    np.testing.assert_allclose(
        penalty_gradient_alpha(p_NR, found, t_const_s), alpha.grad.numpy(), atol=1e-9, rtol=1e-7
    )


@given(st.integers(0, 2**32))
def test_the_envelope_theorem_against_finite_differences(seed: int) -> None:
    lut = random_lut(5, 4, 3, seed, "relay")
    p_NR = random_p(lut, 2.0, seed)
    found = lut.expected(p_NR)
    step = np.where(lut.mask_NR, np.random.default_rng(seed).standard_normal(p_NR.shape), 0) * 1e-7
    forward, backward = (lut.expected(p_NR + s * step) for s in (1, -1))
    if forward.placement == backward.placement:  # away from a kink
        slope = (forward.latency_s - backward.latency_s) / 2
        assert slope == pytest.approx(float((found.gradient_p_NR * step).sum()), rel=1e-4, abs=1e-15)


def test_a_certain_choice_expects_its_own_latency() -> None:
    lut = random_lut(6, 4, 3, 0)
    indices = (0, 1, 2, 3, 0, 0)
    p_NR = np.eye(4)[list(indices)]
    assert lut.expected(p_NR).latency_s == best_split(lut.tau_NM(indices), lut.moves_LMM)[0]
    np.testing.assert_array_equal(penalty_gradient_alpha(p_NR, lut.expected(p_NR), 1.0), 0.0)


def test_all_candidates_are_in_the_gradient_not_the_sampled_two() -> None:
    lut = random_lut(5, 4, 2, 3)
    p_NR = random_p(lut, 100.0, 3)
    gradient = penalty_gradient_alpha(p_NR, lut.expected(p_NR), 0.5)
    assert (gradient[1:-1] != 0).all() and (gradient[[0, -1]] == 0).all()


@given(st.integers(0, 2**32), st.booleans(), st.sampled_from(["broadcast", "serial"]))
def test_on_a_mesh_the_gradient_equals_finite_differences(seed: int, alike: bool, fan_out: str) -> None:
    lut = random_mesh(2, (1, 2, 1), 2, 3, seed, alike, fan_out)
    p_NR = random_p(lut, 2.0, seed)
    found = lut.expected(p_NR)
    step = np.where(lut.mask_NR, np.random.default_rng(seed).standard_normal(p_NR.shape), 0) * 1e-7
    forward, backward = (lut.expected(p_NR + s * step) for s in (1, -1))
    same = [(e.gradient_p_NR == found.gradient_p_NR).all() for e in (forward, backward)]
    if all(same):  # away from a kink
        slope = (forward.latency_s - backward.latency_s) / 2
        assert slope == pytest.approx(float((found.gradient_p_NR * step).sum()), rel=1e-4, abs=1e-15)


@given(st.integers(0, 2**32))
def test_on_a_mesh_e_of_t_is_optimistic(seed: int) -> None:
    # With one placement T is a max of sums, so E[T] as the max of means is at most the mean of T.
    lut = random_mesh(2, (1, 1), 2, 3, seed, True)
    p_NR, random = random_p(lut, 2.0, seed), np.random.default_rng(seed)
    placement = lut.best_split((0,) * 6)[1]
    drawn = [[int(random.choice(3, p=p)) for p in p_NR] for _ in range(400)]
    times = [lut.latency_s(indices, placement) for indices in drawn]
    spread = 4 * float(np.std(times)) / 20
    assert lut.expected(p_NR).latency_s <= float(np.mean(times)) + spread


def test_a_certain_choice_on_a_mesh_and_a_fixed_split() -> None:
    lut = random_mesh(2, (1, 2), 2, 3, 4, False)
    indices = (0, 1, 2, 0, 1, 2, 0)
    p_NR = np.eye(3)[list(indices)]
    assert lut.expected(p_NR).latency_s == pytest.approx(lut.best_split(indices)[0], rel=1e-12)
    line = random_lut(6, 4, 3, 0)
    fixed = fixed_split(line, [Device(name, name, "") for name in line.devices])
    expected = fixed.expected(np.eye(4)[[0, 1, 2, 3, 0, 0]])
    assert expected.placement.cuts == (2, 4, 6)
    assert expected.latency_s == pytest.approx(line.latency_s((0, 1, 2, 3, 0, 0), expected.placement))
