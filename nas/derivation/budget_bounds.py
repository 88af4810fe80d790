"""Upper bounds on the score under limits, exact in one limited resource, with a price of time.

What a device uses of the resource starts anew with each device. So the best priced score of the layers that
remain depends on the state, on the sum that its device has used, and on the largest peak among its layers.
Sums are rounded down to cells. The price of time bounds the far end of the band (Lagrangian relaxation).

N layers, R candidates, S states, K cells of a limit, P levels of the peak, Q limited resources, X labels.
"""

from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray, IntArray
from jmsnas.nas.derivation.chain_bounds import BranchScores
from jmsnas.nas.derivation.limited_moves import ROUNDING, LimitedMoves

# Levels of the peak above this number are merged.
_MAX_LEVELS = 32
# Sums of at most a few hundred shares of a limit differ by less, in cells.
_ROUNDING_CELLS = 1e-9


@dataclass(frozen=True, slots=True)
class BudgetBounds:
    """Bounds by limits on resource `q`, and by the price of a second.

    A price above 0 is that of seconds above the end of the band, one below 0 of seconds below its start;
    `paid` is the price of all seconds up to there. `score_LSPK[n, s, p, k]`: best priced score of layers n..
    when layer n-1 ended on state s, whose device has k cells left for the sum, and peak level p so far.
    """

    q: int
    price_per_s: float
    paid: float
    level_SP: FloatArray
    score_LSPK: FloatArray

    def bound(
        self, n: int, reached_X: FloatArray, state_X: IntArray, sum_X: FloatArray, peak_X: FloatArray
    ) -> FloatArray:
        """Bound the score of layers n.. of labels whose devices used a sum and a peak, in shares; (X,)."""
        K = self.score_LSPK.shape[3] - 1
        level_X = np.count_nonzero(self.level_SP[state_X] <= peak_X[:, None], axis=1) - 1
        left_X = np.ceil((1 - sum_X) * K + _ROUNDING_CELLS).clip(0, K).astype(np.intp)
        score_X: FloatArray = self.score_LSPK[n, state_X, level_X, left_X]
        return score_X + (self.paid - self.price_per_s * reached_X)

    @property
    def root(self) -> float:
        """Bound on the score of all layers."""
        return float(self.score_LSPK[0, 0, 0, -1] + self.paid)


def budget_bounds(
    moves: LimitedMoves,
    log_p_NR: FloatArray,
    behind: float,
    low_s: float,
    high_s: float,
    q: int,
    price_per_s: float,
    cells: int = 2000,
) -> BudgetBounds:
    """Compute the table of resource `q` from the last layer back; `behind`: see `priced_branches`."""
    allowed_NRS = moves.free_NRS & (high_s * (1 + ROUNDING) >= moves.U_NRS)
    allowed_NRS &= np.asarray(np.isfinite(moves.moves_LSS[:-1]).any(axis=1))[:, None]
    gain_NRS = log_p_NR[:, :, None] - price_per_s * moves.U_NRS
    never_LSS = np.isinf(moves.moves_LSS)
    gain_LSS = np.where(never_LSS, -np.inf, -price_per_s * np.where(never_LSS, 0.0, moves.moves_LSS))
    N, _, S = gain_NRS.shape
    states = [_state(moves, allowed_NRS, q, s, cells) for s in range(S)]
    P = max(len(state.level_P) for state in states)
    level_SP, score_LSPK = np.full((S, P), np.inf), np.full((N + 1, S, P, cells + 1), -np.inf)
    for s, state in enumerate(states):
        level_SP[s, : len(state.level_P)] = state.level_P
        ends = gain_LSS[N, s].max() + behind
        score_LSPK[N, s, : len(state.level_P)] = np.where(state.sends(moves.sent_QLS[q, N, s]), ends, -np.inf)
    for n in range(N - 1, -1, -1):
        enter_S, stay = np.full(S, -np.inf), []
        for s, state in enumerate(states):
            own = np.flatnonzero(allowed_NRS[n, :, s])
            after_PK = np.where(state.sends(0.0), score_LSPK[n + 1, s, : len(state.level_P)], -np.inf)
            used, level, gain = state.used_NR[n, own], state.level_NR[n, own], gain_NRS[n, own, s]
            enter_S[s] = (after_PK[level, cells - used] + gain).max(initial=-np.inf)
            stay.append(_stay(after_PK, used, level, gain) if n else after_PK)
        for a, state in enumerate(states if n else states[:1]):
            same_S = moves.same_SS[a] & (n > 0)
            leave = float((enter_S + gain_LSS[n, a])[~same_S].max(initial=-np.inf))
            here_PK = score_LSPK[n, a, : len(state.level_P)]
            here_PK[:] = np.where(state.sends(moves.sent_QLS[q, n, a] if n else 0.0), leave, -np.inf)
            for b in np.flatnonzero(same_S & ~never_LSS[n, a]):
                np.maximum(here_PK, stay[b] + gain_LSS[n, a, b], out=here_PK)
    paid = price_per_s * (high_s if price_per_s > 0 else low_s)
    return BudgetBounds(q, price_per_s, paid, level_SP, score_LSPK)


def priced_branches(branches: BranchScores, price_per_s: float, cell_s: float) -> float:
    """Best priced score of the branches of a mesh, whose rounding loses cells; of a chain: 0."""
    lost = branches.slack + 1 if branches.slack and price_per_s < 0 else 0
    cells_K = np.arange(len(branches.exact_K)) + lost
    return float((branches.exact_K - price_per_s * cell_s * cells_K).max())


@dataclass(frozen=True, slots=True)
class _State:
    """A state: levels of the peak, cells and level of each candidate; `free_PK`: share left above a level."""

    level_P: FloatArray
    level_NR: IntArray
    used_NR: IntArray
    free_PK: FloatArray

    def sends(self, share: float) -> BoolArray:
        """Whether a share of the limit is left, (P, K)."""
        return self.free_PK >= share


def _state(moves: LimitedMoves, allowed_NRS: BoolArray, q: int, s: int, cells: int) -> _State:
    peak_NR, use_NR = moves.peak_QNRS[q, :, :, s], moves.use_QNRS[q, :, :, s]
    # All states of a device have the same levels.
    allowed_NR = allowed_NRS[:, :, moves.same_SS[s]].any(axis=2)
    level_P = np.unique(np.append(peak_NR[allowed_NR], 0.0))
    if len(level_P) > _MAX_LEVELS:
        level_P = level_P[np.linspace(0, len(level_P) - 1, _MAX_LEVELS).astype(np.intp)]
    return _State(
        level_P,
        np.searchsorted(level_P, peak_NR, side="right") - 1,
        np.floor(np.where(allowed_NR, use_NR, 0.0) * cells).astype(np.intp),
        (np.arange(cells + 1) + _ROUNDING_CELLS) / cells - level_P[:, None],
    )


def _stay(after_PK: FloatArray, used: IntArray, level: IntArray, gain: FloatArray) -> FloatArray:
    """Best score before a layer of the same device, over the candidates with cells, level and gain given."""
    best_PK, kept = np.full_like(after_PK, -np.inf), list[tuple[int, int]]()
    for k in np.lexsort((level, used, -gain)).tolist():
        c, p = int(used[k]), int(level[k])
        if any(c >= other_c and p >= other_p for other_c, other_p in kept):
            continue  # no gain over a candidate that uses no more
        kept.append((c, p))
        left = after_PK.shape[1] - c
        np.maximum(best_PK[p:, c:], after_PK[p:, :left] + gain[k], out=best_PK[p:, c:])
        np.maximum(best_PK[:p, c:], after_PK[p, :left] + gain[k], out=best_PK[:p, c:])
    return best_PK
