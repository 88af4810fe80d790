"""Upper bounds on the score under limits on memory and energy, over all allowed splits of a chain.

A device that runs layers b+1 .. n so far is a label (s, b) of state s. Of an architecture's first n layers
the least time of each label over the allowed splits, and what its device has used, are exact. Of the layers
that remain, the limits are priced (Lagrangian relaxation): the score less a price of what each device uses,
plus the price of its limit, is at least the score wherever the limits hold. Time is kept on a grid, as in
chain_bounds.py. The prices are the dual values of a linear program (limit_prices.py).

N layers, R candidates, S states, M devices, Q limited resources, X labels.
"""

from dataclasses import dataclass, field

import numpy as np

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.nas.derivation.budget_bounds import BudgetBounds
from jmsnas.nas.derivation.chain_bounds import (
    BranchScores,
    FreeSplitBounds,
    floor_cells,
    maximum_shifted,
    window_bounds,
)
from jmsnas.nas.derivation.limited_moves import ROUNDING, LimitedMoves


@dataclass(frozen=True, slots=True)
class Prices:
    """Price of each limit, (Q, S).

    `scored`: whether log p counts; without it, a negative value proves that no completion is within limits.
    """

    price_QS: FloatArray
    scored: bool = True


@dataclass(frozen=True, slots=True)
class Labels:
    """Least seconds of each label of R children of a node, and shares of the limits that its device used.

    `sum_QRSB` and `peak_QRSB`: sum, and largest peak, of the layers of the device so far.
    """

    reached_RSB: FloatArray
    sum_QRSB: FloatArray
    peak_QRSB: FloatArray


@dataclass(slots=True)
class LimitedBounds:
    """Bounds by several prices, each with its table of scores, of which the least counts."""

    moves: LimitedMoves
    log_p_NR: FloatArray
    branches: BranchScores
    low_s: float
    high_s: float
    grid_cells: int
    prices: list[Prices]
    tables: list[FreeSplitBounds]
    budgets: list[BudgetBounds]
    feasibility: list[FloatArray] = field(default_factory=list)

    @property
    def cell_s(self) -> float:
        """Seconds of a cell of the tables."""
        return self.high_s / (self.grid_cells - 1)

    @property
    def root(self) -> float:
        """Bound without prices on the score of all layers."""
        return float(self.tables[0].bound(0, np.zeros((1, 1)))[0])

    def labels(self, chosen: tuple[int, ...], reached_SB: FloatArray, columns: IntArray) -> Labels:
        """Extend the labels of a node by every candidate of the next layer."""
        its, n = self.moves, len(chosen)
        use_QRS1 = its.use_QNRS[:, n, columns][..., None]
        peak_QRS1 = its.peak_QNRS[:, n, columns][..., None]
        if n == 0:
            arrived_S = its.moves_LSS[0, 0]
            reached_RS = np.where(its.free_NRS[0, columns], arrived_S + its.U_NRS[0, columns], np.inf)
            return Labels(reached_RS[..., None], use_QRS1, peak_QRS1)
        sums_QSB, peaks_QSB = self._used(chosen)
        within_SB = (sums_QSB + peaks_QSB + its.sent_QLS[:, n, :, None] <= 1).all(axis=0)
        left_SB = np.where(within_SB, reached_SB, np.inf)
        moved_SS = its.moves_LSS[n]
        arrived_S = np.where(its.same_SS, np.inf, left_SB.min(axis=1)[:, None] + moved_SS).min(axis=0)
        stayed_SB = np.where(its.same_SS, moved_SS, np.inf)[:, :, None] + reached_SB[:, None, :]
        arrived_SB = np.concatenate([stayed_SB.min(axis=0), arrived_S[:, None]], axis=1)
        sum_QRSB = np.concatenate([sums_QSB[:, None] + use_QRS1, use_QRS1], axis=3)
        peak_QRSB = np.concatenate([np.maximum(peaks_QSB[:, None], peak_QRS1), peak_QRS1], axis=3)
        reached_RSB = arrived_SB + its.U_NRS[n, columns][..., None]
        reached_RSB[(sum_QRSB + peak_QRSB > 1).any(axis=0) | (reached_RSB > self.high_s * (1 + ROUNDING))] = (
            np.inf
        )
        return Labels(reached_RSB, sum_QRSB, peak_QRSB)

    def _used(self, chosen: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
        """Sum and largest use of layers b+1 .. n on each state, for each b; (Q, S, B) both."""
        rows, columns = np.arange(len(chosen)), list(chosen)
        sums_QBS = np.cumsum(self.moves.use_QNRS[:, rows, columns][:, ::-1], axis=1)[:, ::-1]
        peaks_QBS = np.maximum.accumulate(self.moves.peak_QNRS[:, rows, columns][:, ::-1], axis=1)[:, ::-1]
        return sums_QBS.transpose(0, 2, 1), peaks_QBS.transpose(0, 2, 1)

    def bound(self, chosen: tuple[int, ...], labels: Labels, columns: IntArray) -> FloatArray:
        """Bound the score of the layers that remain for each child, (R,)."""
        n, best_R = len(chosen) + 1, np.full(len(columns), np.inf)
        r, s, b = np.nonzero(np.isfinite(labels.reached_RSB))
        reached_X, sum_QX, peak_QX = (
            labels.reached_RSB[r, s, b],
            labels.sum_QRSB[:, r, s, b],
            labels.peak_QRSB[:, r, s, b],
        )
        left_QX = 1 - sum_QX - peak_QX
        first_X = np.searchsorted(r, np.arange(len(columns)))
        some_R = np.bincount(r, minlength=len(columns)) > 0
        best_R[~some_R] = -np.inf
        first_X = first_X[some_R]
        if not len(first_X):
            return best_R
        at_X = (self.low_s - reached_X) * ((1 - 1e-12) / self.cell_s)
        for prices, table in zip(self.prices, self.tables, strict=True):
            at = (at_X + (table.pad - table.first_N[n])).clip(0, table.window_NSJ.shape[2] - 1)
            score_X = table.window_NSJ[n, s, at.astype(np.intp)]
            for q, price_S in enumerate(prices.price_QS):
                if price_S.any():
                    score_X = score_X + price_S[s] * left_QX[q]
            own = np.maximum.reduceat(score_X, first_X)
            if not prices.scored:
                own = np.where(own < -1e-9, -np.inf, np.inf)
            best_R[some_R] = np.minimum(best_R[some_R], own)
        for budget in self.budgets:
            score_X = budget.bound(n, reached_X, s, sum_QX[budget.q], peak_QX[budget.q])
            best_R[some_R] = np.minimum(best_R[some_R], np.maximum.reduceat(score_X, first_X))
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

    def add_feasibility(self) -> None:
        """Add the tables of `feasibility`, the prices that may prove that no completion is within limits."""
        for price_QS in self.feasibility:
            self.add(Prices(price_QS, scored=False))
        self.feasibility = []

    def _table(self, prices: Prices) -> FreeSplitBounds:
        """Best priced score of layers n.. by the cells they take, from the last layer back."""
        its, price_QS = self.moves, prices.price_QS
        N, _, S = its.U_NRS.shape
        cell_s = self.cell_s
        sending_LS = np.einsum("qs,qls->ls", price_QS, its.sent_QLS)
        use_NRS = np.einsum("qs,qnrs->nrs", price_QS, its.use_QNRS)
        peak_NRS = np.einsum("qs,qnrs->nrs", price_QS, its.peak_QNRS) - price_QS.sum(axis=0)
        gain_NR = self.log_p_NR * prices.scored
        score_NSK = np.full((N + 1, S, self.grid_cells), -np.inf)
        for s in range(S):
            if np.isfinite(seconds := its.moves_LSS[N, s].min()):
                cells = floor_cells(seconds, cell_s)
                behind_K = self.branches.exact_K
                if not prices.scored:
                    behind_K = np.where(behind_K > -np.inf, 0.0, -np.inf)
                maximum_shifted(score_NSK[N, s], behind_K - sending_LS[N, s], cells)
        for n in range(N - 1, -1, -1):
            stay_SK, enter_SK = np.full((2, S, self.grid_cells), -np.inf)
            for s in np.flatnonzero(np.isfinite(its.moves_LSS[n]).any(axis=0)).tolist():
                for i in np.flatnonzero(
                    its.free_NRS[n, :, s] & (its.U_NRS[n, :, s] <= self.high_s * (1 + ROUNDING))
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
