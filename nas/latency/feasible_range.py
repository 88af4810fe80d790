"""The feasible range of T: from the fastest network to the slowest, each under its own best split.

N layers, R candidates, M devices, L = N + 1 outputs, S states, B branches, K children. Limits on memory and
energy are not looked at: they depend on the operations.
"""

import heapq
import itertools

import numpy as np
from numpy.typing import NDArray

from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.latency.mesh_lut import MeshLUT

# A branch and bound stops within so much of the truth.
_CLOSE = 1.001
# Nodes of the branches' own branch and bound; each solves an assignment a candidate, about 2 ms together.
_MOST_ASSIGNMENTS = 1000


def feasible_range_s(lut: LatencyLUT, max_nodes: int = 20_000) -> tuple[float, float]:
    """Find the least T over operations and splits, and the greatest over operations of the least over splits.

    The least is exact. The greatest is a branch and bound that stops within 0.1 % of the truth; where its
    node limit ends it first, it is the greatest T met. On a mesh line and branches add up, each with its own
    operations. Raises TargetError when the policy allows no split at all.
    """
    least_s, most_s = _line_range(lut.main_path, max_nodes)
    if isinstance(lut, MeshLUT):
        low_s, high_s = _branches_range(lut, max_nodes)
        return least_s + low_s, most_s + high_s
    return least_s, most_s


def _line_range(line: ChainLUT, max_nodes: int) -> tuple[float, float]:
    U_NRS = line.U_NRS
    fastest_NM = np.where(line.mask_NR[:, :, None], line.U_NRM, np.inf).min(axis=1)
    slowest_NS = np.where(line.mask_NR[:, :, None], U_NRS, -np.inf).max(axis=1)
    least_s = line.best_path(fastest_NM)[0]
    togo_LS = slowest_remaining_s(slowest_NS, line.moves_LMM)
    counter, best_s = itertools.count(), least_s
    queue = [(-float(togo_LS[0, 0]), next(counter), 0, np.zeros(1))]
    for _ in range(max_nodes):
        if not queue or -queue[0][0] <= best_s * _CLOSE:
            break
        _, _, n, reached_S = heapq.heappop(queue)
        arrived_S = (reached_S[:, None] + line.moves_LMM[n, : len(reached_S)]).min(axis=0)
        for i in np.flatnonzero(line.mask_NR[n]):
            ran_S = arrived_S + U_NRS[n, i]
            bound_s = float((ran_S + togo_LS[n + 1]).min())
            if n + 1 == len(slowest_NS):
                best_s = max(best_s, bound_s)
            elif bound_s > best_s:
                heapq.heappush(queue, (-bound_s, next(counter), n + 1, ran_S))
    return least_s, best_s


def slowest_remaining_s(
    slowest_NS: NDArray[np.float64], moves_LMM: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Least seconds over splits from state s after n layers, all that follow at their slowest; (L, S)."""
    togo_LS = np.empty((len(moves_LMM), moves_LMM.shape[1]))
    togo_LS[-1] = moves_LMM[-1].min(axis=1)
    for n in range(len(slowest_NS) - 1, -1, -1):
        togo_LS[n] = (moves_LMM[n] + (slowest_NS[n] + togo_LS[n + 1])[None, :]).min(axis=1)
    return togo_LS


def longest_branch_s(lut: MeshLUT) -> float:
    """Bound what the slowest branch takes under its best child, all operations at their slowest, seconds."""
    children, slowest_NRM = list(lut.children), np.where(lut.mask_NR[:, :, None], lut.U_NRM, -np.inf)
    most_BK = np.array([slowest_NRM[list(own)].max(axis=1)[:, children].sum(0) for own in lut.branch_layers])
    return lut.best_children(np.where(lut.allowed_BK(), most_BK, np.inf))[0]


def _branches_range(lut: MeshLUT, max_nodes: int) -> tuple[float, float]:
    """Least and greatest time of the slowest branch under the best way to give branches their children."""
    children = list(lut.children)
    order = [(b, n) for b, own in enumerate(lut.branch_layers) for n in own]
    U_NRK = lut.U_NRM[:, :, children]
    masked_NRK = np.where(lut.mask_NR[:, :, None], U_NRK, np.nan)
    forbidden_BK = np.where(lut.allowed_BK(), 0.0, np.inf)
    least_BK, most_BK = (
        np.array([choose(masked_NRK[list(own)], axis=1).sum(axis=0) for own in lut.branch_layers])
        for choose in (np.nanmin, np.nanmax)
    )
    least_s = lut.best_children(least_BK + forbidden_BK)[0]
    # Of equal bounds the newest goes first: where another branch is the slowest, all choices are equal.
    counter, best_s = itertools.count(0, -1), least_s
    queue = [(-lut.best_children(most_BK + forbidden_BK)[0], next(counter), 0, most_BK)]
    for _ in range(min(max_nodes, _MOST_ASSIGNMENTS)):
        if not queue or -queue[0][0] <= best_s * _CLOSE:
            break
        _, _, at, tau_BK = heapq.heappop(queue)
        b, n = order[at]
        for i in np.flatnonzero(lut.mask_NR[n]):
            chosen_BK = tau_BK.copy()
            chosen_BK[b] += U_NRK[n, i] - np.nanmax(masked_NRK[n], axis=0)
            bound_s = lut.best_children(chosen_BK + forbidden_BK)[0]
            if at + 1 == len(order):
                best_s = max(best_s, bound_s)
            elif bound_s > best_s:
                heapq.heappush(queue, (-bound_s, next(counter), at + 1, chosen_BK))
    return least_s, best_s
