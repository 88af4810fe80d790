"""What pulls E[T] towards T_const beside cross-entropy: a penalty, or a learned multiplier.

N layers, R candidates. Every gradient here is exact, over all candidates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.nas.derivation.derive import argmax_architecture
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.latency.expected_latency import ExpectedLatency, penalty_gradient_alpha


@dataclass(slots=True)
class LatencyLoss:
    """The latency term of the loss, and what it learns.

    Attributes
    ----------
    kind
        `penalty`: lambda2 (E[T] / T_const - 1)^2, equation (4). `multiplier`: lambda (E[T] / T_const - 1),
        lambda learned by gradient ascent on T of the likeliest network (LightNAS, arXiv 2208.14446).
    lambda2
        Weight of the penalty, dimensionless.
    rate
        How fast the multiplier learns: a step adds rate * (T / T_const - 1).
    entropy
        Weight of the mean entropy of the choices in the loss at the end of the search; it grows from 0.
    multiplier
        lambda now; 0 at first, negative while the likeliest network is faster than T_const.
    """

    kind: str
    t_const_s: float
    lambda2: float
    rate: float
    entropy: float
    multiplier: float = 0.0

    def gradient(
        self, p_NR: NDArray[np.float64], expected: ExpectedLatency, ramp: float
    ) -> NDArray[np.float64]:
        """Give d/dalpha (N, R) of the latency term and of the entropy; `ramp` goes from 0 to 1."""
        if self.kind == "penalty":
            gradient = self.lambda2 * penalty_gradient_alpha(p_NR, expected, self.t_const_s)
        else:
            mean_N1 = (p_NR * expected.gradient_p_NR).sum(axis=1, keepdims=True)
            per_s = self.multiplier / self.t_const_s
            gradient = per_s * p_NR * (expected.gradient_p_NR - mean_N1)
        if self.entropy:
            gradient += self.entropy * ramp * entropy_gradient_alpha(p_NR)
        return gradient

    def learn(self, p_NR: NDArray[np.float64], lut: LatencyLUT) -> None:
        """Move the multiplier by how far T of the likeliest network is from T_const; nothing in a penalty."""
        if self.kind == "multiplier":
            self.multiplier += self.rate * (argmax_architecture(p_NR, lut).latency_s / self.t_const_s - 1)


def entropy_gradient_alpha(p_NR: NDArray[np.float64]) -> NDArray[np.float64]:
    """d/dalpha of the mean entropy over the layers that choose: -p_i (log p_i + H) / their number."""
    log_p_NR = np.log(np.maximum(p_NR, 1e-30))
    entropy_N1 = -(p_NR * log_p_NR).sum(axis=1, keepdims=True)
    chosen = max(int((p_NR.max(axis=1) < 1).sum()), 1)
    gradient: NDArray[np.float64] = -p_NR * (log_p_NR + entropy_N1) / chosen
    return gradient


def dimensionless_lambda2(lambda2_per_s2: float, t_const_s: float) -> float:
    """Convert the paper's lambda2, of (E[T] - T_const)^2 in s^2, to that of (E[T] / T_const - 1)^2."""
    return lambda2_per_s2 * t_const_s**2
