"""One-hot gates and the two-path step of the architecture parameters (section IV-A, Lemma 1).

N layers, R candidates. Gate g of a layer is one-hot, g_i = 1 with probability p_i = softmax(alpha)_i.
Source of the two-path step: ProxylessNAS (arXiv 1812.00332), section 3.2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TwoPaths:
    """Two different candidates per layer: `active` is trained, `other` only evaluated.

    Both are the same where a layer has a single candidate.
    """

    active: tuple[int, ...]
    other: tuple[int, ...]


def probabilities(alpha_NR: Tensor, mask_NR: Tensor) -> Tensor:
    """Compute p = softmax(alpha) over the candidates of each layer, 0 elsewhere; (N, R)."""
    return torch.softmax(alpha_NR.masked_fill(~mask_NR, -torch.inf), dim=1)


def sample_path(p_NR: Tensor, generator: torch.Generator) -> tuple[int, ...]:
    """Sample one candidate per layer from p: the binary gates of a weight step."""
    return tuple(torch.multinomial(p_NR, 1, generator=generator)[:, 0].tolist())


def sample_two_paths(p_NR: Tensor, mask_NR: Tensor, generator: torch.Generator) -> TwoPaths:
    """Sample two different candidates per layer from p, the active one from p renormalised over both."""
    # A candidate whose p underflowed to 0 can still be the second of two.
    drawn_N2 = torch.multinomial(
        p_NR.clamp(min=1e-30) * mask_NR + (mask_NR.sum(1, keepdim=True) == 1) * 1e-30, 2, generator=generator
    )
    q_N2 = p_NR.gather(1, drawn_N2)
    first_N = torch.rand(len(p_NR), generator=generator) * q_N2.sum(1) < q_N2[:, 0]
    single_N = mask_NR.sum(1) == 1
    only_N = mask_NR.to(torch.int64).argmax(1)
    active_N = torch.where(first_N, drawn_N2[:, 0], drawn_N2[:, 1])
    other_N = torch.where(first_N, drawn_N2[:, 1], drawn_N2[:, 0])
    return TwoPaths(
        tuple(torch.where(single_N, only_N, active_N).tolist()),
        tuple(torch.where(single_N, only_N, other_N).tolist()),
    )


def lemma_1(gradient_g: Tensor, p: Tensor) -> Tensor:
    """Equation (5): dL/dalpha_i = sum_j dL/dg_j p_j (delta_ij - p_i) = p_i (dL/dg_i - sum_j p_j dL/dg_j).

    Both arguments (..., R); the last dimension is summed.
    """
    return p * (gradient_g - (p * gradient_g).sum(-1, keepdim=True))


def alpha_gradient(gradient_g_N2: Tensor, p_NR: Tensor, paths: TwoPaths) -> Tensor:
    """Compute dCE/dalpha (N, R) from the gate gradients of two paths: Lemma 1, p renormalised over both.

    Column 0 of `gradient_g_N2` is of the active path, column 1 of the other. Every layer is updated, also one
    whose active candidate is Identity.
    """
    index_N2 = torch.tensor([paths.active, paths.other]).T
    several_N1 = index_N2[:, :1] != index_N2[:, 1:]
    q_N2 = p_NR.gather(1, index_N2)
    q_N2 = q_N2 / q_N2.sum(1, keepdim=True).clamp(min=1e-30)
    gradient_N2 = torch.where(several_N1, lemma_1(gradient_g_N2, q_N2), 0.0)
    return torch.zeros_like(p_NR).scatter_add_(1, index_N2, gradient_N2)


def renormalise(alpha_NR: Tensor, before_NR: Tensor, paths: TwoPaths) -> None:
    """Shift the alphas of the two paths, in place, to the total probability they had in `before_NR`.

    So a step on two candidates leaves the probabilities of all others unchanged.
    """
    index_N2 = torch.tensor([paths.active, paths.other]).T
    several_N1 = index_N2[:, :1] != index_N2[:, 1:]
    now, before = alpha_NR.gather(1, index_N2), before_NR.gather(1, index_N2)
    shift_N1 = torch.logsumexp(now, 1, keepdim=True) - torch.logsumexp(before, 1, keepdim=True)
    alpha_NR.scatter_(1, index_N2, torch.where(several_N1, now - shift_N1, now))
