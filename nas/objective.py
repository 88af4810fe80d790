"""The loss of equation (4): cross-entropy + lambda1 ||theta||^2 + lambda2 (E[T] / T_const - 1)^2.

The penalty is dimensionless: the paper's (T - T_const)^2 in raw seconds has no scale that holds across
targets; its lambda2 equals ours divided by T_const^2.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.nas.latency_lut import LatencyLUT
from jmsnas.nas.placement import Placement
from jmsnas.nas.split import best_split


@dataclass(frozen=True, slots=True)
class ExpectedLatency:
    """E[T] in seconds at the best split for E[tau], and its exact gradient by p over ALL candidates.

    With free cuts E[T] is the least over cuts of a linear function of p; its gradient is U at the best
    cuts (envelope theorem), so nothing is differentiated through the solver.
    """

    latency_s: float
    gradient_p_NR: NDArray[np.float64]
    placement: Placement


def expected_latency(p_NR: NDArray[np.float64], lut: LatencyLUT) -> ExpectedLatency:
    """E[T]: equation (1) with E(tau_n^m) = sum_i p_i U_n^m(v_i) (section IV-B), cuts re-solved at p."""
    tau_NM = np.einsum("nr,nrm->nm", p_NR, lut.U_NRM)
    latency_s, placement = best_split(tau_NM, lut.moves_LMM)
    gradient_p_NR = lut.U_NRM[np.arange(len(p_NR)), :, list(placement.devices)]
    return ExpectedLatency(latency_s, gradient_p_NR, placement)


def penalty_gradient_alpha(
    p_NR: NDArray[np.float64], expected: ExpectedLatency, t_const_s: float
) -> NDArray[np.float64]:
    """Give d penalty / d alpha, (N, R): 2 (E[T] / T_const - 1) / T_const * p_i (U_i - sum_j p_j U_j)."""
    mean_N1 = (p_NR * expected.gradient_p_NR).sum(axis=1, keepdims=True)
    scale = 2 * (expected.latency_s / t_const_s - 1) / t_const_s
    gradient: NDArray[np.float64] = scale * p_NR * (expected.gradient_p_NR - mean_N1)
    return gradient
