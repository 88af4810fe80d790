"""Local search for architectures in a band of T near a given one, by exchanging two operations at a time.

It proves nothing: it gives the search of derive.py a good solution early, and the result at its node limit.
N layers, R candidates, F exchanges (a layer and its new candidate).
"""

from collections.abc import Iterator

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.errors import InfeasibleError
from jmsnas.nas.latency.build_lut import LatencyLUT

# Pairs of exchanges whose T is computed exactly in a round; number of rounds.
_PROPOSED, _ROUNDS = 12, 40


def _proposals(
    T_NR: FloatArray,
    lut: LatencyLUT,
    log_p_NR: FloatArray,
    indices: tuple[int, ...],
    T_s: float,
    low_s: float,
    high_s: float,
) -> list[tuple[int, ...]]:
    """Choose pairs of exchanges: by the sum of their times the likeliest in the band, else the nearest."""
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
    lut: LatencyLUT, log_p_NR: FloatArray, start: tuple[int, ...], low_s: float, high_s: float
) -> Iterator[tuple[int, ...]]:
    """Move from an architecture into the band, then to likelier ones; generate all visited in the band."""
    rows, indices, visited = np.arange(len(start)), start, {start}
    try:
        T_s, placement = lut.best_split(start)
    except InfeasibleError:
        return
    for _ in range(_ROUNDS):
        T_NR, score = lut.exchanges_s(indices, placement), log_p_NR[rows, list(indices)].sum()
        off_s = max(low_s - T_s, T_s - high_s, 0.0)
        moved = False
        for other in _proposals(T_NR, lut, log_p_NR, indices, T_s, low_s, high_s):
            if other in visited:
                continue
            visited.add(other)
            try:
                other_s, other_placement = lut.best_split(other)
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
