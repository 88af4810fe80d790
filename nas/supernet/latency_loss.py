"""Latency term of the loss of equation (4): a penalty on E[T] or a learned multiplier, and their gradients.

Loss: cross-entropy + lambda1 ||theta||^2 + lambda2 (E[T] / T_const - 1)^2. The penalty is dimensionless: the
scale of the paper's (E[T] - T_const)^2 in seconds depends on the target; its lambda2 is ours / T_const^2.
N layers, R candidates. Every gradient here is exact, over all candidates.
"""

from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.nas.derivation.derive import argmax_architecture
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.latency.chain_lut import ExpectedLatency


@dataclass(slots=True)
class LatencyLoss:
    """Latency term of the loss, and its learned multiplier.

    Its `kind` is `penalty`: lambda2 (E[T] / T_const - 1)^2, equation (4), with a dimensionless lambda2; or
    `multiplier`: lambda (E[T] / T_const - 1), lambda learned by gradient ascent on T of the likeliest
    architecture (LightNAS, arXiv 2208.14446), where a step adds `rate` * (T / T_const - 1). `entropy`: weight
    of the mean entropy of the choices at the end of the search; it grows from 0. `multiplier`: current
    lambda; 0 at first, negative while the likeliest architecture is faster than T_const.
    """

    kind: str
    t_const_s: float
    lambda2: float
    rate: float
    entropy: float
    multiplier: float = 0.0

    def gradient(self, p_NR: FloatArray, expected: ExpectedLatency, ramp: float) -> FloatArray:
        """Compute d/dalpha (N, R) of the latency term and the entropy; `ramp` grows from 0 to 1."""
        if self.kind == "penalty":
            gradient = self.lambda2 * penalty_gradient_alpha(p_NR, expected, self.t_const_s)
        else:
            gradient = latency_gradient_alpha(p_NR, expected, self.multiplier / self.t_const_s)
        if self.entropy:
            gradient += self.entropy * ramp * entropy_gradient_alpha(p_NR)
        return gradient

    def update_multiplier(self, p_NR: FloatArray, lut: LatencyLUT) -> None:
        """Add rate * (T / T_const - 1) of the likeliest architecture to lambda; a penalty stays as it is."""
        if self.kind == "multiplier":
            self.multiplier += self.rate * (argmax_architecture(p_NR, lut).latency_s / self.t_const_s - 1)


def latency_gradient_alpha(p_NR: FloatArray, expected: ExpectedLatency, scale: float) -> FloatArray:
    """Compute scale * dE[T] / dalpha, (N, R): scale * p_i (U_i - sum_j p_j U_j)."""
    mean_N1 = (p_NR * expected.gradient_p_NR).sum(axis=1, keepdims=True)
    gradient: FloatArray = scale * p_NR * (expected.gradient_p_NR - mean_N1)
    return gradient


def penalty_gradient_alpha(p_NR: FloatArray, expected: ExpectedLatency, t_const_s: float) -> FloatArray:
    """Compute d/dalpha (N, R) of (E[T] / T_const - 1)^2: 2 (E[T] / T_const - 1) / T_const dE[T]/dalpha."""
    return latency_gradient_alpha(p_NR, expected, 2 * (expected.latency_s / t_const_s - 1) / t_const_s)


def entropy_gradient_alpha(p_NR: FloatArray) -> FloatArray:
    """Compute d/dalpha of the mean entropy over the n layers that choose, (N, R): -p_i (log p_i + H) / n."""
    log_p_NR = np.log(np.maximum(p_NR, 1e-30))
    entropy_N1 = -(p_NR * log_p_NR).sum(axis=1, keepdims=True)
    chosen = max(int((p_NR.max(axis=1) < 1).sum()), 1)
    gradient: FloatArray = -p_NR * (log_p_NR + entropy_N1) / chosen
    return gradient


def dimensionless_lambda2(lambda2_per_s2: float, t_const_s: float) -> float:
    """Convert the paper's lambda2 of (E[T] - T_const)^2 in s^2 to that of (E[T] / T_const - 1)^2."""
    return lambda2_per_s2 * t_const_s**2
