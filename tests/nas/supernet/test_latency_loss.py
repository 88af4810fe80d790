import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_search import LUT

from jmsnas.nas.supernet.gates import probabilities
from jmsnas.nas.supernet.latency_loss import LatencyLoss, dimensionless_lambda2, entropy_gradient_alpha

MASK = torch.tensor(LUT.mask_NR)


def alphas(seed: int) -> torch.Tensor:
    return torch.randn(MASK.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 2**32))
def test_the_entropys_gradient_against_autograd(seed: int) -> None:
    alpha = alphas(seed).requires_grad_()
    choosing = MASK.sum(1) > 1
    chosen = probabilities(alpha[choosing], MASK[choosing])
    (-torch.xlogy(chosen, chosen).sum(1).mean()).backward()
    assert alpha.grad is not None
    found = entropy_gradient_alpha(probabilities(alpha.detach(), MASK).numpy())
    np.testing.assert_allclose(found, alpha.grad.numpy(), atol=1e-12)


@given(st.integers(0, 2**32), st.floats(-3, 3))
def test_the_multipliers_gradient_against_differences(seed: int, multiplier: float) -> None:
    # lambda (E[T] / T_const - 1), by central differences of 1e-6 in one alpha.
    alpha, t_const_s = alphas(seed), 6e-4
    constraint = LatencyLoss("multiplier", t_const_s, 0.0, 0.0, 0.0, multiplier)
    p = probabilities(alpha, MASK).numpy()
    found = constraint.gradient(p, LUT.expected(p), 1.0)
    for n, i in ((1, 0), (2, 1), (3, len(LUT.mask_NR[3]) - 1)):
        terms = []
        for by in (1e-6, -1e-6):
            moved = alpha.clone()
            moved[n, i] += by
            expected = LUT.expected(probabilities(moved, MASK).numpy())
            terms.append(multiplier * (expected.latency_s / t_const_s - 1))
        assert found[n, i] == pytest.approx((terms[0] - terms[1]) / 2e-6, abs=1e-6)


def test_the_multiplier_learns_on_the_likeliest_network() -> None:
    # Identity everywhere is the fastest network: its T is 483 us; for 2 x that, lambda falls by rate / 2.
    p = np.where(LUT.mask_NR, 1e-9, 0.0)
    p[[0, 4], 0] = 1
    p[1:4, -1] = 1
    t_s = LUT.expected(p).latency_s
    constraint = LatencyLoss("multiplier", 2 * t_s, 0.0, 0.1, 0.0)
    constraint.update_multiplier(p, LUT)
    assert constraint.multiplier == pytest.approx(-0.05, rel=1e-4)
    penalty = LatencyLoss("penalty", 2 * t_s, 5.0, 0.1, 0.0)
    penalty.update_multiplier(p, LUT)
    assert penalty.multiplier == 0


def test_the_papers_form_is_converted() -> None:
    # lambda2 (E[T] - T_const)^2 = 2e6/s^2 (0.003 s - 0.002 s)^2 = 2; ours: 8 (0.003 / 0.002 - 1)^2 = 2.
    assert dimensionless_lambda2(2e6, 0.002) == pytest.approx(8)
    assert pytest.approx(2e6 * (0.003 - 0.002) ** 2) == 8 * (0.003 / 0.002 - 1) ** 2
