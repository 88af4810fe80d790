"""Networks in the band near a given one, by exchanging two operations at a time: a local search.

It proves nothing; what it finds ends the proof of derive.py early, and is the answer where that is cut off.
N layers, R candidates, S states, F exchanges (a layer and its new candidate).
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import InfeasibleError
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.latency.feasible_range import slowest_remaining_s
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.split.placement import Placement

# Pairs of exchanges whose T is looked at in full, in a round; and rounds.
_PROPOSED, _ROUNDS = 12, 40


def line_exchanges_s(line: ChainLUT, indices: tuple[int, ...], cuts: Placement) -> NDArray[np.float64]:
    """Give T of the line, under its best split, when one layer takes another candidate; (N, R) seconds.

    Where memory or energy bind: under the cuts it has.
    """
    if line.limited:
        U_NR = line.U_NRM[np.arange(len(indices)), :, list(cuts.devices)]
        own_N = U_NR[np.arange(len(indices)), list(indices)]
        return U_NR - own_N[:, None] + line.latency_s(indices, cuts)
    U_NRS, moves_LSS = line.U_NRS, line.moves_LMM
    tau_NS = U_NRS[np.arange(len(indices)), list(indices)]
    togo_LS, reached_S = slowest_remaining_s(tau_NS, moves_LSS), np.zeros(1)
    T_NR = np.empty(U_NRS.shape[:2])
    for n in range(len(indices)):
        arrived_S = (reached_S[:, None] + moves_LSS[n, : len(reached_S)]).min(axis=0)
        T_NR[n] = (arrived_S + U_NRS[n] + togo_LS[n + 1]).min(axis=1)
        reached_S = arrived_S + tau_NS[n]
    return T_NR


def exchanges_s(lut: LatencyLUT, indices: tuple[int, ...], placement: Placement) -> NDArray[np.float64]:
    """Give T when one layer takes another candidate, (N, R) seconds: of a mesh with the same children."""
    if isinstance(lut, ChainLUT):
        return line_exchanges_s(lut, indices, placement)
    return _mesh_exchanges_s(lut, indices, placement)


def _mesh_exchanges_s(lut: MeshLUT, indices: tuple[int, ...], placement: Placement) -> NDArray[np.float64]:
    own = tuple(indices[n] for n in lut.main_path_layers)
    line_NR = line_exchanges_s(lut.main_path, own, replace(placement, children=()))
    line_s = float(line_NR[0, own[0]])
    ends_B = lut.ends_s(lut.tau_BK(indices), placement.children)
    T_NR = np.empty(lut.mask_NR.shape)
    T_NR[list(lut.main_path_layers)] = line_NR + ends_B.max()
    for b, layers in enumerate(lut.branch_layers):
        U_LR = lut.U_NRM[list(layers), :, lut.children[placement.children[b]]]
        taken_L1 = U_LR[np.arange(len(layers)), [indices[n] for n in layers]][:, None]
        others_s = np.delete(ends_B, b).max(initial=0.0)
        T_NR[list(layers)] = line_s + np.maximum(ends_B[b] - taken_L1 + U_LR, others_s)
    return T_NR


def _proposals(
    T_NR: NDArray[np.float64],
    lut: LatencyLUT,
    log_p_NR: NDArray[np.float64],
    indices: tuple[int, ...],
    T_s: float,
    low_s: float,
    high_s: float,
) -> list[tuple[int, ...]]:
    """Pairs of exchanges, times added up: the likeliest that seem to end in the band, else the nearest."""
    layer_F, new_F = np.nonzero(lut.mask_NR)
    slower_F = T_NR[layer_F, new_F] - T_s
    gain_F = log_p_NR[layer_F, new_F] - log_p_NR[layer_F, np.array(indices)[layer_F]]
    T_FF = T_s + slower_F[:, None] + slower_F
    gain_FF = np.where(layer_F[:, None] < layer_F, gain_F[:, None] + gain_F, -np.inf)
    off_FF = np.maximum(low_s - T_FF, 0) + np.maximum(T_FF - high_s, 0)
    worth_FF = np.where(off_FF > 0, -np.inf, gain_FF)
    if not np.isfinite(worth_FF).any():
        worth_FF = np.where(np.isfinite(gain_FF), -off_FF, -np.inf)
    best = np.argpartition(worth_FF, -_PROPOSED, axis=None)[-_PROPOSED:]
    found = []
    for k in best[np.argsort(-worth_FF.flat[best], kind="stable")].tolist():
        changed = list(indices)
        for f in divmod(k, len(layer_F)):
            changed[layer_F[f]] = int(new_F[f])
        if np.isfinite(worth_FF.flat[k]):
            found.append(tuple(changed))
    return found


def local_search(
    lut: LatencyLUT, log_p_NR: NDArray[np.float64], start: tuple[int, ...], low_s: float, high_s: float
) -> Iterator[tuple[int, ...]]:
    """Go from a network to the band, and there to likelier ones; give all that are met in the band."""
    rows, indices, seen = np.arange(len(start)), start, {start}
    try:
        T_s, placement = lut.best(start)
    except InfeasibleError:
        return
    for _ in range(_ROUNDS):
        T_NR, score = exchanges_s(lut, indices, placement), log_p_NR[rows, list(indices)].sum()
        off_s = max(low_s - T_s, T_s - high_s, 0.0)
        moved = False
        for other in _proposals(T_NR, lut, log_p_NR, indices, T_s, low_s, high_s):
            if other in seen:
                continue
            seen.add(other)
            try:
                other_s, other_placement = lut.best(other)
            except InfeasibleError:
                continue
            other_off_s = max(low_s - other_s, other_s - high_s, 0.0)
            if not other_off_s:
                yield other
            better = log_p_NR[rows, list(other)].sum() > score + 1e-12
            if not moved and (other_off_s < off_s or (not other_off_s and better)):
                moved, after = True, (other, other_s, other_placement)
        if not moved:
            return
        indices, T_s, placement = after
