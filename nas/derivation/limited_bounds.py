"""Upper bounds on the score under limits on memory and energy, over all allowed splits of a chain.

A device that runs layers b+1 .. n so far is a label (s, b) of state s. Of an architecture's first n layers
the least time of each label over the allowed splits, and what its device has used, are exact. Of the layers
that remain, the limits are priced (Lagrangian relaxation): the score less a price of what each device uses,
plus the price of its limit, is at least the score wherever the limits hold. Time is kept on a grid, as in
chain_bounds.py. The prices are the dual values of a linear program (limit_prices.py).

N layers, R candidates, S states, M devices, Q limited resources, X labels.
"""

from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray, IntArray
from jmsnas.nas.derivation.chain_bounds import (
    GRID_CELLS,
    BranchScores,
    FreeSplitBounds,
    floor_cells,
    maximum_shifted,
    window_bounds,
)
from jmsnas.nas.latency.chain_lut import ChainLUT

# Limits and times that are reached exactly are met, whatever the order of the sums.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class LimitedMoves:
    """Limited resources of a chain by state, in shares of the limits of the devices.

    `use_QNRS`, `peak_QNRS` and `sent_QLS`: share of the limit that a candidate uses, at its largest, and
    that sending output n from the state takes. `moves_LSS`: as of the chain, infinite where a device that
    only relays exceeds a limit. `free_NRS`: whether the candidate alone is within the limits. `same_SS`:
    whether two states are of one device.
    """

    use_QNRS: FloatArray
    peak_QNRS: FloatArray
    sent_QLS: FloatArray
    moves_LSS: FloatArray
    U_NRS: FloatArray
    free_NRS: BoolArray
    same_SS: BoolArray

    def binds(self, q: int, s: int) -> bool:
        """Whether the device of state s has a limit of resource q."""
        return bool(self.use_QNRS[q, :, :, s].any() or self.peak_QNRS[q, :, :, s].any())


def limited_moves(line: ChainLUT) -> LimitedMoves:
    """Collect the resources that bind, with what relaying devices may not send."""
    devices = np.array(line.states or range(len(line.devices)))
    moves_LSS, (N, S) = line.moves_LMM.copy(), (len(line.U_NRM), len(devices))
    use, peak, sent = [], [], []
    for resource in (resource for resource in line.resources if resource.binds):
        limit_M = np.maximum(resource.limit_M * (1 + _ROUNDING), 1e-300)
        sent_LM = resource.sent_LM / limit_M
        if line.stops_early:
            sent_LM[N] = 0.0
        for n, m in np.argwhere(sent_LM > 1).tolist():
            before = devices < m if n else np.ones(S, dtype=bool)
            behind = devices > m if n < N else np.ones(S, dtype=bool)
            moves_LSS[n][np.ix_(before, behind)] = np.inf
        use.append((resource.use_NRM / limit_M)[:, :, devices])
        peak.append((resource.peak_NR[:, :, None] / limit_M)[:, :, devices])
        sent.append(sent_LM[:, devices])
    use_QNRS, peak_QNRS, sent_QLS = np.array(use), np.array(peak), np.array(sent)
    free_NRS = (use_QNRS + peak_QNRS <= 1).all(axis=0) & line.mask_NR[:, :, None]
    same_SS = devices[:, None] == devices
    return LimitedMoves(use_QNRS, peak_QNRS, sent_QLS, moves_LSS, line.U_NRS, free_NRS, same_SS)


@dataclass(frozen=True, slots=True)
class Prices:
    """Price of each limit, (Q, S).

    `scored`: whether log p counts; without it, a negative value proves that no completion is within limits.
    """

    price_QS: FloatArray
    scored: bool = True


@dataclass(frozen=True, slots=True)
class Labels:
    """Least seconds of each label of R children of a node, and shares of the limits that its device used."""

    reached_RSB: FloatArray
    used_QRSB: FloatArray


@dataclass(slots=True)
class LimitedBounds:
    """Bounds by several prices, each with its table of scores, of which the least counts."""

    moves: LimitedMoves
    log_p_NR: FloatArray
    branches: BranchScores
    low_s: float
    high_s: float
    prices: list[Prices]
    tables: list[FreeSplitBounds]

    def labels(self, chosen: tuple[int, ...], reached_SB: FloatArray, columns: IntArray) -> Labels:
        """Extend the labels of a node by every candidate of the next layer."""
        its, n = self.moves, len(chosen)
        use_QRS1 = its.use_QNRS[:, n, columns][..., None]
        peak_QRS1 = its.peak_QNRS[:, n, columns][..., None]
        new_QRS1 = use_QRS1 + peak_QRS1
        if n == 0:
            arrived_S = its.moves_LSS[0, 0]
            reached_RS = np.where(its.free_NRS[0, columns], arrived_S + its.U_NRS[0, columns], np.inf)
            return Labels(reached_RS[..., None], new_QRS1)
        sums_QSB, peaks_QSB = self._used(chosen)
        within_SB = (sums_QSB + peaks_QSB + its.sent_QLS[:, n, :, None] <= 1).all(axis=0)
        left_SB = np.where(within_SB, reached_SB, np.inf)
        moved_SS = its.moves_LSS[n]
        arrived_S = np.where(its.same_SS, np.inf, left_SB.min(axis=1)[:, None] + moved_SS).min(axis=0)
        stayed_SB = np.where(its.same_SS, moved_SS, np.inf)[:, :, None] + reached_SB[:, None, :]
        arrived_SB = np.concatenate([stayed_SB.min(axis=0), arrived_S[:, None]], axis=1)
        longer_QRSB = sums_QSB[:, None] + use_QRS1 + np.maximum(peaks_QSB[:, None], peak_QRS1)
        used_QRSB = np.concatenate([longer_QRSB, new_QRS1], axis=3)
        reached_RSB = arrived_SB + its.U_NRS[n, columns][..., None]
        reached_RSB[(used_QRSB > 1).any(axis=0) | (reached_RSB > self.high_s * (1 + _ROUNDING))] = np.inf
        return Labels(reached_RSB, used_QRSB)

    def _used(self, chosen: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
        """Sum and largest use of layers b+1 .. n on each state, for each b; (Q, S, B) both."""
        rows, columns = np.arange(len(chosen)), list(chosen)
        sums_QBS = np.cumsum(self.moves.use_QNRS[:, rows, columns][:, ::-1], axis=1)[:, ::-1]
        peaks_QBS = np.maximum.accumulate(self.moves.peak_QNRS[:, rows, columns][:, ::-1], axis=1)[:, ::-1]
        return sums_QBS.transpose(0, 2, 1), peaks_QBS.transpose(0, 2, 1)

    def bound(self, chosen: tuple[int, ...], labels: Labels, columns: IntArray) -> FloatArray:
        """Bound the score of the layers that remain for each child, (R,)."""
        n, best_R = len(chosen), np.full(len(columns), np.inf)
        reached_RSB, left_QRSB = labels.reached_RSB, 1 - labels.used_QRSB
        r, s, b = np.nonzero(np.isfinite(reached_RSB))
        for prices, table in zip(self.prices, self.tables, strict=True):
            first = table.pad - table.first_N[n + 1]
            at_X = (self.low_s - reached_RSB[r, s, b]) * ((1 - 1e-12) / table.cell_s) + first
            at_X = at_X.clip(0, table.window_NSJ.shape[2] - 1).astype(np.intp)
            score_X = table.window_NSJ[n + 1, s, at_X]
            for q, price_S in enumerate(prices.price_QS):
                score_X = score_X + price_S[s] * left_QRSB[q, r, s, b]
            own_R = np.full(len(columns), -np.inf)
            np.maximum.at(own_R, r, score_X)
            if not prices.scored:
                own_R = np.where(own_R < -1e-9, -np.inf, np.inf)
            best_R = np.minimum(best_R, own_R)
        return best_R

    def least_s(self, chosen: tuple[int, ...], reached_SB: FloatArray) -> float:
        """Least T of a complete main path; infinite where no split is allowed."""
        sums_QSB, peaks_QSB = self._used(chosen)
        within_SB = (sums_QSB + peaks_QSB + self.moves.sent_QLS[:, -1, :, None] <= 1).all(axis=0)
        ends_S = np.where(within_SB, reached_SB, np.inf).min(axis=1) + self.moves.moves_LSS[-1].min(axis=1)
        return float(ends_S.min())

    def add(self, prices: Prices) -> None:
        """Add the table of further prices."""
        self.prices.append(prices)
        self.tables.append(self._table(prices))

    def _table(self, prices: Prices) -> FreeSplitBounds:
        """Best priced score of layers n.. by the cells they take, from the last layer back."""
        its, price_QS = self.moves, prices.price_QS
        N, _, S = its.U_NRS.shape
        cell_s = self.high_s / (GRID_CELLS - 1)
        sending_LS = np.einsum("qs,qls->ls", price_QS, its.sent_QLS)
        use_NRS = np.einsum("qs,qnrs->nrs", price_QS, its.use_QNRS)
        peak_NRS = np.einsum("qs,qnrs->nrs", price_QS, its.peak_QNRS) - price_QS.sum(axis=0)
        gain_NR = self.log_p_NR * prices.scored
        score_NSK = np.full((N + 1, S, GRID_CELLS), -np.inf)
        for s in range(S):
            if np.isfinite(seconds := its.moves_LSS[N, s].min()):
                cells = floor_cells(seconds, cell_s)
                behind_K = self.branches.exact_K
                if not prices.scored:
                    behind_K = np.where(behind_K > -np.inf, 0.0, -np.inf)
                maximum_shifted(score_NSK[N, s], behind_K - sending_LS[N, s], cells)
        for n in range(N - 1, -1, -1):
            stay_SK, enter_SK = np.full((2, S, GRID_CELLS), -np.inf)
            for s in range(S):
                for i in np.flatnonzero(
                    its.free_NRS[n, :, s] & (its.U_NRS[n, :, s] <= self.high_s * (1 + _ROUNDING))
                ):
                    cells = floor_cells(its.U_NRS[n, i, s], cell_s)
                    gained_K = score_NSK[n + 1, s] + (gain_NR[n, i] - use_NRS[n, i, s])
                    maximum_shifted(stay_SK[s], gained_K, cells)
                    maximum_shifted(enter_SK[s], gained_K - peak_NRS[n, i, s], cells)
            for a, b in zip(*np.nonzero(np.isfinite(its.moves_LSS[n])), strict=True):
                cells = floor_cells(its.moves_LSS[n, a, b], cell_s)
                if n and its.same_SS[a, b]:
                    maximum_shifted(score_NSK[n, a], stay_SK[b], cells)
                else:
                    leaving = sending_LS[n, a] if n else 0.0
                    maximum_shifted(score_NSK[n, a], enter_SK[b] - leaving, cells)
        return window_bounds(score_NSK, cell_s, self.low_s, self.high_s, S + self.branches.slack)
