"""The loss of equation (4): cross-entropy + lambda1 ||theta||^2 + lambda2 (E[T] / T_const - 1)^2.

The penalty is dimensionless: the paper's (T - T_const)^2 in raw seconds has no scale that holds across
targets; its lambda2 equals ours divided by T_const^2.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.split.placement import Placement


@dataclass(frozen=True, slots=True)
class ExpectedLatency:
    """E[T] in seconds at the best split for E[tau], and its exact gradient by p over ALL candidates.

    With free cuts E[T] is the least over cuts of a linear function of p; its gradient is U at the best
    cuts (envelope theorem), so nothing is differentiated through the solver. On a mesh the slowest branch
    alone has a gradient, and E[T] is optimistic: the max of means is at most the mean of the max.
    """

    latency_s: float
    gradient_p_NR: NDArray[np.float64]
    placement: Placement


def expected_latency(p_NR: NDArray[np.float64], lut: LatencyLUT) -> ExpectedLatency:
    """E[T]: equation (1) or (2) with E(tau_n^m) = sum_i p_i U_n^m(v_i) (section IV-B), cuts re-solved at p.

    Limits on memory and energy are the derived network's: they are not looked at here.
    """
    if isinstance(lut, MeshLUT):
        return _expected_mesh(p_NR, lut)
    if lut.fixed:
        gradient_p_NR = _gradient(lut, lut.fixed)
        return ExpectedLatency(float((p_NR * gradient_p_NR).sum()) + lut.moved_s, gradient_p_NR, lut.fixed)
    latency_s, path = lut.best_path((p_NR[:, None, :] @ lut.U_NRM)[:, 0])
    placement = lut.on_devices(path)
    return ExpectedLatency(latency_s, _gradient(lut, placement), placement)


def _gradient(line: ChainLUT, placement: Placement) -> NDArray[np.float64]:
    gradient_NR: NDArray[np.float64] = line.U_NRM[np.arange(len(line.U_NRM)), :, list(placement.devices)]
    return gradient_NR


def _expected_mesh(p_NR: NDArray[np.float64], lut: MeshLUT) -> ExpectedLatency:
    line = expected_latency(p_NR[list(lut.main_path_layers)], lut.main_path)
    children = list(lut.children)
    tau_NK = (p_NR[:, None, :] @ lut.U_NRM[:, :, children])[:, 0]
    tau_BK = np.array([tau_NK[list(own)].sum(axis=0) for own in lut.branch_layers])
    slowest_s, chosen = lut.best_children(np.where(lut.allowed_BK(), tau_BK, np.inf))
    placement = replace(line.placement, children=chosen)
    gradient_p_NR = np.zeros_like(p_NR)
    gradient_p_NR[list(lut.main_path_layers)] = line.gradient_p_NR
    ends_B = lut.ends_s(tau_BK, chosen)
    b = int(ends_B.argmax())
    own = list(lut.branch_layers[b])
    gradient_p_NR[own] = lut.U_NRM[own][:, :, children[chosen[b]]]
    return ExpectedLatency(line.latency_s + slowest_s, gradient_p_NR, placement)


def penalty_gradient_alpha(
    p_NR: NDArray[np.float64], expected: ExpectedLatency, t_const_s: float
) -> NDArray[np.float64]:
    """Give d penalty / d alpha, (N, R): 2 (E[T] / T_const - 1) / T_const * p_i (U_i - sum_j p_j U_j)."""
    mean_N1 = (p_NR * expected.gradient_p_NR).sum(axis=1, keepdims=True)
    scale = 2 * (expected.latency_s / t_const_s - 1) / t_const_s
    gradient: NDArray[np.float64] = scale * p_NR * (expected.gradient_p_NR - mean_N1)
    return gradient
