"""One step of the architecture parameters alpha: Lemma 1 on two paths, and the exact gradient of E[T].

Adam with beta1 = 0, as ProxylessNAS: a first moment would go on moving candidates that were not sampled.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from jmsnas.nas.gates import alpha_gradient, probabilities, renormalise, sample_one, sample_two
from jmsnas.nas.latency_lut import LatencyLUT
from jmsnas.nas.objective import ExpectedLatency, expected_latency, penalty_gradient_alpha
from jmsnas.nas.supernet import Supernet
from jmsnas.nas.training import check_loss

_BETA2, _EPS = 0.999, 1e-8


class ArchitectureStep:
    """alpha (N, R) of a supernet and its optimiser.

    Parameters
    ----------
    supernet, lut
        What alpha chooses between, and what each choice costs.
    t_const_s
        The target, seconds.
    lambda2
        Weight of (E[T] / T_const - 1)^2, dimensionless.
    lr
        Adam's learning rate.
    generator
        What paths are drawn with.
    """

    def __init__(
        self,
        supernet: Supernet,
        lut: LatencyLUT,
        t_const_s: float,
        lambda2: float,
        lr: float,
        generator: torch.Generator,
    ) -> None:
        self.supernet, self.lut, self.t_const_s, self.lambda2 = supernet, lut, t_const_s, lambda2
        self.generator, self.lr = generator, lr
        self.mask_NR = torch.tensor(lut.mask_NR)
        self.alpha_NR = torch.zeros(lut.mask_NR.shape, dtype=torch.float64)
        self.adam = torch.optim.Adam([self.alpha_NR], lr=lr, betas=(0.0, _BETA2), eps=_EPS)
        self.steps = 0

    def probabilities(self) -> Tensor:
        """Give p = softmax(alpha), (N, R) float64."""
        return probabilities(self.alpha_NR, self.mask_NR)

    def sample_path(self) -> tuple[int, ...]:
        """Draw the gates of a weight step."""
        return sample_one(self.probabilities(), self.generator)

    def expected(self) -> ExpectedLatency:
        """E[T] now."""
        return expected_latency(self.probabilities().numpy(), self.lut)

    def entropy(self) -> float:
        """Mean entropy of the choices over the layers that have one, nats."""
        p_NR = self.probabilities()
        entropy_N = -torch.xlogy(p_NR, p_NR).sum(1)
        return float(entropy_N[self.mask_NR.sum(1) > 1].mean())

    def step(self, x: Tensor, labels: Tensor) -> tuple[float, int]:
        """Step alpha on one batch of held-out images; no weight and no BatchNorm statistic moves.

        Gives the cross-entropy of the active path and how many images it got right.
        """
        p_NR = self.probabilities()
        paths = sample_two(p_NR, self.mask_NR, self.generator)
        gates_N2 = torch.ones(len(p_NR), 2, device=x.device, requires_grad=True)
        self.supernet.requires_grad_(False)
        logits = self.supernet.forward_two(x, paths, gates_N2)
        loss = F.cross_entropy(logits, labels)
        value = check_loss(loss, "the architecture step")
        loss.backward()  # type: ignore[no-untyped-call]
        self.supernet.requires_grad_(True)
        assert gates_N2.grad is not None
        gradient_ce_NR = alpha_gradient(gates_N2.grad.to("cpu", torch.float64), p_NR, paths)
        expected = expected_latency(p_NR.numpy(), self.lut)
        gradient_t_NR = self.lambda2 * torch.from_numpy(
            penalty_gradient_alpha(p_NR.numpy(), expected, self.t_const_s)
        )
        before_NR = self.alpha_NR.clone()
        self.alpha_NR.grad = gradient_ce_NR + gradient_t_NR
        self.adam.step()
        self.steps += 1
        # Cross-entropy compares the two paths only; their weight against all others is latency's to change.
        renormalise(self.alpha_NR, before_NR - self._scaled(gradient_t_NR), paths)
        return value, int((logits.detach().argmax(1) == labels).sum())

    def _scaled(self, gradient_NR: Tensor) -> Tensor:
        """Give the part of Adam's last step that a part of the gradient made."""
        second_NR = self.adam.state[self.alpha_NR]["exp_avg_sq"] / (1 - _BETA2**self.steps)
        scaled: Tensor = self.lr * gradient_NR / (second_NR.sqrt() + _EPS)
        return scaled
