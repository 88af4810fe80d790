import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from jmsnas.nas.supernet.gates import (
    TwoPaths,
    alpha_gradient,
    lemma_1,
    probabilities,
    renormalise,
    sample_path,
    sample_two_paths,
)

MASK = torch.tensor([[True, False, False, False], [True, True, True, True], [True, True, False, False]])


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 13), st.integers(0, 2**32))
def test_lemma_1_equals_the_double_sum_and_autograd(R: int, seed: int) -> None:
    alpha = torch.randn(R, dtype=torch.float64, generator=draw(seed), requires_grad=True)
    gradient_g = torch.randn(R, dtype=torch.float64, generator=draw(seed + 1))
    p = torch.softmax(alpha, 0)
    double_sum = [
        sum(float(gradient_g[j] * p[j].detach() * (float(i == j) - p[i].detach())) for j in range(R))
        for i in range(R)
    ]
    found = lemma_1(gradient_g, p.detach())
    assert found.tolist() == pytest.approx(double_sum, abs=1e-12)
    (p * gradient_g).sum().backward()  # dL/dp_j ~ dL/dg_j, equation (6)
    assert alpha.grad is not None
    torch.testing.assert_close(found, alpha.grad, atol=1e-12, rtol=0)


def test_equation_8_against_autograd() -> None:
    # Equation (7), (8): h = sigmoid(g.v); dL/dg = mean over k of (h - y) v.
    v_KR = torch.randn(32, 5, dtype=torch.float64, generator=draw(0))
    y_K = (torch.rand(32, generator=draw(1)) < 0.5).to(torch.float64)
    g = torch.tensor([0.0, 0, 1, 0, 0], dtype=torch.float64, requires_grad=True)
    F.binary_cross_entropy(torch.sigmoid(v_KR @ g), y_K).backward()
    worked = ((torch.sigmoid(v_KR @ g.detach()) - y_K)[:, None] * v_KR).mean(0)
    assert g.grad is not None
    torch.testing.assert_close(g.grad, worked, atol=1e-12, rtol=0)


def test_probabilities_are_zero_where_there_is_no_candidate() -> None:
    p = probabilities(torch.zeros(3, 4), MASK)
    assert p.tolist() == [[1, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]]


def test_paths_are_drawn_as_p_says() -> None:
    alpha = torch.tensor([[0.0] * 4, [2.0, 1.0, 0.0, -1.0], [0.0] * 4])
    p = probabilities(alpha, MASK)
    generator, count = draw(0), 4000
    one = torch.zeros(4)
    active = torch.zeros(4)
    for _ in range(count):
        one[sample_path(p, generator)[1]] += 1
        paths = sample_two_paths(p, MASK, generator)
        assert paths.active[0] == paths.other[0] == 0
        assert paths.active[1] != paths.other[1] and {paths.active[2], paths.other[2]} == {0, 1}
        active[paths.active[1]] += 1
    # Four standard deviations of a share of 0.5 over 4000 draws are 3.2 %.
    torch.testing.assert_close(one / count, p[1], atol=0.032, rtol=0)
    # Of two drawn without replacement, the active one is likelier to be the likelier: order is kept.
    assert active.argsort(descending=True).tolist() == [0, 1, 2, 3]


def test_the_same_seed_draws_the_same_paths() -> None:
    p = probabilities(torch.zeros(3, 4), MASK)
    assert sample_two_paths(p, MASK, draw(5)) == sample_two_paths(p, MASK, draw(5))


def test_a_candidate_whose_p_is_zero_can_still_be_second() -> None:
    p = torch.tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [1.0, 0, 0, 0]])
    paths = sample_two_paths(p, MASK, draw(0))
    assert paths.active[1:] == (0, 0) and paths.other[1] != 0 and paths.other[2] == 1


def test_alpha_gradient_touches_the_two_only() -> None:
    p = probabilities(torch.tensor([[0.0] * 4, [0.3, -0.2, 0.9, 0.0], [0.0] * 4]).double(), MASK)
    paths = TwoPaths((0, 2, 0), (0, 1, 1))
    gradient = torch.tensor([[5.0, 5.0], [2.0, -1.0], [0.0, 0.0]]).double()
    found = alpha_gradient(gradient, p, paths)
    q = p[1, [2, 1]] / p[1, [2, 1]].sum()
    worked = lemma_1(gradient[1], q)
    assert found[0].tolist() == [0.0] * 4 and found[2].tolist() == [0.0] * 4
    assert found[1].tolist() == pytest.approx([0, float(worked[1]), float(worked[0]), 0])


@given(st.integers(0, 2**32))
def test_renormalising_leaves_the_others_as_they_were(seed: int) -> None:
    before = torch.randn(3, 4, generator=draw(seed), dtype=torch.float64)
    paths = sample_two_paths(probabilities(before, MASK), MASK, draw(seed))
    after = before.clone()
    for n, (a, b) in enumerate(zip(paths.active, paths.other, strict=True)):
        if a != b:
            after[n, a] += 0.7
            after[n, b] -= 0.2
    moved = probabilities(after, MASK)
    renormalise(after, before, paths)
    then, now = probabilities(before, MASK), probabilities(after, MASK)
    for n, pair in enumerate(zip(paths.active, paths.other, strict=True)):
        others: Tensor = torch.tensor([i not in pair for i in range(4)])
        torch.testing.assert_close(now[n][others], then[n][others], atol=1e-12, rtol=0)
        if pair[0] != pair[1]:  # the ratio of the two is what the step made it
            torch.testing.assert_close(
                now[n, pair[0]] / now[n, pair[1]], moved[n, pair[0]] / moved[n, pair[1]], rtol=1e-9, atol=0
            )
