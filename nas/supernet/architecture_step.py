"""Update of the architecture parameters alpha: Lemma 1 on two paths, and the exact gradient of E[T].

Adam with beta1 = 0, as in ProxylessNAS: a first moment would keep moving candidates that were not sampled.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.latency.chain_lut import ExpectedLatency
from jmsnas.nas.supernet.checkpoint import StateDict
from jmsnas.nas.supernet.distributed import SINGLE_PROCESS, Ranks
from jmsnas.nas.supernet.gates import (
    TwoPaths,
    alpha_gradient,
    probabilities,
    renormalise,
    sample_path,
    sample_two_paths,
)
from jmsnas.nas.supernet.latency_loss import LatencyLoss
from jmsnas.nas.supernet.supernet import Supernet
from jmsnas.nas.supernet.training import check_loss, mixed_precision

_BETA2, _EPS = 0.999, 1e-8


class ArchitectureStep:
    """Architecture parameters alpha (N, R) of a supernet and their optimiser.

    `constraint`: latency term of the loss. `lr`: Adam's learning rate. `generator`: random numbers of the
    sampled paths; in the same state on all ranks, which then sample the same.
    """

    def __init__(
        self,
        supernet: Supernet,
        lut: LatencyLUT,
        constraint: LatencyLoss,
        lr: float,
        generator: torch.Generator,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        self.supernet, self.lut, self.constraint, self.ranks = supernet, lut, constraint, ranks
        self.generator, self.lr = generator, lr
        self.mask_NR = torch.tensor(lut.mask_NR)
        self.alpha_NR = torch.zeros(lut.mask_NR.shape, dtype=torch.float64)
        self.adam = torch.optim.Adam([self.alpha_NR], lr=lr, betas=(0.0, _BETA2), eps=_EPS)

    def probabilities(self) -> Tensor:
        """Compute p = softmax(alpha), (N, R) float64."""
        return probabilities(self.alpha_NR, self.mask_NR)

    def sample_path(self) -> tuple[int, ...]:
        """Sample the path of a weight step."""
        return sample_path(self.probabilities(), self.generator)

    def expected(self) -> ExpectedLatency:
        """Compute E[T] at the current p."""
        return self.lut.expected(self.probabilities().numpy())

    def entropy(self) -> float:
        """Mean entropy of p over the layers with several candidates, nats."""
        p_NR = self.probabilities()
        entropy_N = -torch.xlogy(p_NR, p_NR).sum(1)
        return float(entropy_N[self.mask_NR.sum(1) > 1].mean())

    def step(self, x: Tensor, labels: Tensor, ramp: float = 0.0) -> tuple[float, int]:
        """Update alpha on one batch of held-out images; weights and BatchNorm statistics stay as they are.

        `ramp`: progress of the search, 0 .. 1. Returns the cross-entropy of the active path and the number of
        images it classified correctly.
        """
        p_NR = self.probabilities()
        paths = sample_two_paths(p_NR, self.mask_NR, self.generator)
        gradient_g_N2, value, right = self._gate_gradients(x, labels, paths)
        gradient_ce_NR = alpha_gradient(gradient_g_N2, p_NR, paths)
        expected = self.lut.expected(p_NR.numpy())
        gradient_t_NR = torch.from_numpy(self.constraint.gradient(p_NR.numpy(), expected, ramp))
        before_NR = self.alpha_NR.clone()
        self.alpha_NR.grad = gradient_ce_NR + gradient_t_NR
        self.adam.step()
        # Cross-entropy compares the two paths only: latency alone changes their weight against the others.
        renormalise(self.alpha_NR, before_NR - self._scaled(gradient_t_NR), paths)
        self.constraint.update_multiplier(self.probabilities().numpy(), self.lut)
        return value, right

    def _gate_gradients(self, x: Tensor, labels: Tensor, paths: TwoPaths) -> tuple[Tensor, float, int]:
        """Compute dL/dg of both paths as the mean over all ranks, (N, 2) float64; loss; correct images."""
        gates_N2 = torch.ones(len(paths.active), 2, device=x.device, requires_grad=True)
        self.supernet.requires_grad_(False)
        with mixed_precision(x.device):
            logits = self.supernet.forward_two(x, paths, gates_N2)
        loss = F.cross_entropy(logits.float(), labels)
        value = check_loss(loss, "the architecture step")
        loss.backward()  # type: ignore[no-untyped-call]
        self.supernet.requires_grad_(True)
        assert gates_N2.grad is not None
        gradient_N2 = self.ranks.mean(gates_N2.grad).to("cpu", torch.float64)
        return gradient_N2, value, int((logits.detach().argmax(1) == labels).sum())

    def state(self) -> StateDict:
        """Collect the state of alpha, optimiser, random numbers and multiplier; without the weights."""
        return {
            "alpha": self.alpha_NR,
            "adam": self.adam.state_dict(),
            "paths": self.generator.get_state(),
            "multiplier": self.constraint.multiplier,
        }

    def restore(self, state: StateDict) -> None:
        """Restore a state."""
        self.alpha_NR.copy_(state["alpha"])
        self.adam.load_state_dict(state["adam"])
        self.generator.set_state(state["paths"])
        self.constraint.multiplier = state["multiplier"]

    def _scaled(self, gradient_NR: Tensor) -> Tensor:
        """Compute the part of Adam's last step that a part of the gradient caused."""
        adam = self.adam.state[self.alpha_NR]
        second_NR = adam["exp_avg_sq"] / (1 - _BETA2 ** int(adam["step"]))
        scaled: Tensor = self.lr * gradient_NR / (second_NR.sqrt() + _EPS)
        return scaled
