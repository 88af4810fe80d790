"""Upper bounds on the score of what can still be chosen, on a grid of time: the heuristic of derive.py.

N layers, R candidates, M devices, K grid cells of `cell_s` seconds. Each term's time is rounded down, so a
true remaining time of t seconds lies at most `slack` cells above its cell: windows are widened by that,
every bound holds for the true times, and nothing is lost to the grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.split.placement import Placement

GRID_CELLS = 4000


def floor_cells(seconds: float, cell_s: float) -> int:
    """Give the whole cells in a time; a time that is a whole number of cells may lose one to rounding."""
    return math.floor(seconds / cell_s * (1 - 1e-12))


@dataclass(frozen=True, slots=True)
class FreeSplitBounds:
    """Best score of layers n.. when layer n-1 ended on state s and T must end in the band, over all splits.

    `window_NSJ[n, s, j]`: the best score whose remaining time lies in the window of cells that begins
    `pad` cells before cell j; row 0 starts at the first state. `first_N`: cells that may be lost to rounding.
    """

    window_NSJ: NDArray[np.float64]
    first_N: NDArray[np.int64]
    pad: int
    cell_s: float
    low_s: float
    high_s: float

    def best(self, n: int, reached_RS: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bound the score of layers n.. of several networks, `reached_RS` seconds having passed."""
        first = self.pad - self.first_N[n]
        at_RS = (self.low_s - reached_RS) * ((1 - 1e-12) / self.cell_s) + first
        table_SJ = self.window_NSJ[n, : reached_RS.shape[1]]
        J = table_SJ.shape[1]
        # Towards 0 is down: what is below it is 0 either way.
        found_RS = table_SJ[np.arange(len(table_SJ)), at_RS.clip(0, J - 1).astype(np.intp)]
        found_RS[reached_RS > self.high_s] = -np.inf
        best_R: NDArray[np.float64] = found_RS.max(axis=1)
        return best_R


def window_bounds(
    score_NSK: NDArray[np.float64], cell_s: float, low_s: float, high_s: float, slack: int
) -> FreeSplitBounds:
    """Take the best score of each window of time as wide as the band and what rounding may lose."""
    N = len(score_NSK) - 1
    first_N = np.arange(N, -1, -1) + slack
    width = math.ceil((high_s - low_s) / cell_s) + 2
    pad = width + int(first_N[0])
    table_NSJ = np.pad(score_NSK, ((0, 0), (0, 0), (pad, 0)), constant_values=-np.inf)
    for n in range(N + 1):
        sliding_maximum(table_NSJ[n], width + int(first_N[n]))
    return FreeSplitBounds(table_NSJ, first_N, pad, cell_s, low_s, high_s)


def sliding_maximum(table_SJ: NDArray[np.float64], width: int) -> None:
    """Put at j the largest of the `width` values from j on, in place; by spans that double."""
    span = 1
    while span < min(width, table_SJ.shape[1]):
        step = min(span, width - span)
        np.maximum(table_SJ[:, :-step], table_SJ[:, step:], out=table_SJ[:, :-step])
        span += step


def free_split_bounds(
    log_p_NR: NDArray[np.float64],
    lut: ChainLUT,
    low_s: float,
    high_s: float,
    behind_K: NDArray[np.float64] | None = None,
    slack: int = 0,
) -> FreeSplitBounds:
    """Fill the bounds from the last layer back: O(N M (R + M) K) vector operations.

    `behind_K`: best score of what else takes exactly k cells, whatever the split (the branches of a mesh);
    None for nothing. `slack`: cells that it may lose to rounding.
    """
    U_NRS = lut.U_NRS
    N, _, M = U_NRS.shape
    behind_K = np.zeros(1) if behind_K is None else behind_K
    cell_s = high_s / (GRID_CELLS - 1)
    score_NMK = np.full((N + 1, M, GRID_CELLS), -np.inf)
    for m in range(M):
        if np.isfinite(lut.moves_LMM[N, m].min()):
            maximum_shifted(score_NMK[N, m], behind_K, floor_cells(lut.moves_LMM[N, m].min(), cell_s))
    for n in range(N - 1, -1, -1):
        ran_MK = np.full((M, GRID_CELLS), -np.inf)
        for m in range(M):
            for i in np.flatnonzero(lut.mask_NR[n]):
                cells = floor_cells(U_NRS[n, i, m], cell_s)
                maximum_shifted(ran_MK[m], score_NMK[n + 1, m] + log_p_NR[n, i], cells)
        for a in range(M if n else 1):
            for b in range(a, M):
                if np.isfinite(lut.moves_LMM[n, a, b]):
                    maximum_shifted(score_NMK[n, a], ran_MK[b], floor_cells(lut.moves_LMM[n, a, b], cell_s))
    return window_bounds(score_NMK, cell_s, low_s, high_s, M + slack)


def maximum_shifted(target_K: NDArray[np.float64], source_K: NDArray[np.float64], cells: int) -> None:
    """Raise target[k + cells] to source[k] where that is larger; times beyond the grid are over the limit."""
    if cells < len(target_K):
        part = target_K[cells : cells + len(source_K)]
        np.maximum(part, source_K[: len(part)], out=part)


def maximum_shifted_clipped(target_K: NDArray[np.float64], source_K: NDArray[np.float64], cells: int) -> None:
    """Raise as `maximum_shifted` does; the last cell holds all times beyond the grid too."""
    cells = min(cells, GRID_CELLS - 1)
    maximum_shifted(target_K, source_K, cells)
    target_K[-1] = max(target_K[-1], source_K[GRID_CELLS - 1 - cells :].max())


@dataclass(frozen=True, slots=True)
class FixedSplitBounds:
    """Bounds along fixed splits, C of them: an honest network is at least `low_s` slow under EVERY split.

    So it is under any weighted mean of splits, too, which bounds several of them at once: C counts means.
    `tau_CNR` and `moved_C` are the mean's times; `score_CNK[c, n, k]` is the best score of layers n.. that
    take at least k cells, with what is behind them (see `free_split_bounds`), whose rounding loses `slack`.
    """

    tau_CNR: NDArray[np.float64]
    moved_C: NDArray[np.float64]
    score_CNK: NDArray[np.float64]
    cell_s: float
    low_s: float
    slack: int = 0

    def passed(self, chosen: tuple[int, ...]) -> NDArray[np.float64]:
        """Seconds of the layers chosen and of all moves, (C,)."""
        passed_C: NDArray[np.float64] = self.tau_CNR[:, np.arange(len(chosen)), list(chosen)].sum(axis=1)
        return passed_C + self.moved_C

    def best(self, n: int, passed_CR: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bound the score of layers n.. of several networks that must reach `low_s`, (R,)."""
        C, N = self.tau_CNR.shape[:2]
        cells_CR = np.floor((self.low_s - passed_CR) * ((1 - 1e-12) / self.cell_s)) - (N - n) - self.slack
        at_CR = np.clip(cells_CR, 0, GRID_CELLS - 1).astype(np.intp)
        found_CR = self.score_CNK[np.arange(C)[:, None], n, at_CR]
        best_R: NDArray[np.float64] = found_CR.min(axis=0, initial=np.inf)
        return best_R

    def joined(self, other: "FixedSplitBounds") -> "FixedSplitBounds":
        """Give both together."""
        return replace(
            self,
            tau_CNR=np.concatenate([self.tau_CNR, other.tau_CNR]),
            moved_C=np.concatenate([self.moved_C, other.moved_C]),
            score_CNK=np.concatenate([self.score_CNK, other.score_CNK]),
        )


def split_times_s(lut: ChainLUT, placement: Placement) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds of every candidate under a split, (N, R), and of the moves before each layer and at the end."""
    N, U_NRS = len(lut.U_NRM), lut.U_NRS
    path = (0, *placement.devices)
    moved = [lut.moves_LMM[n, path[n], path[n + 1]] for n in range(N)]
    moved.append(lut.moves_LMM[N, path[N]].min())
    return U_NRS[np.arange(N), :, list(placement.devices)], np.array(moved)


def fixed_split_bounds(
    log_p_NR: NDArray[np.float64],
    lut: ChainLUT,
    placements: Sequence[Placement],
    weights: Sequence[float],
    low_s: float,
    high_s: float,
    behind_K: NDArray[np.float64] | None = None,
    slack: int = 0,
) -> FixedSplitBounds:
    """Fill the bounds of a weighted mean of splits (weights sum to 1) from the last layer back."""
    N = len(log_p_NR)
    cell_s = high_s / (GRID_CELLS - 1)
    times = [split_times_s(lut, placement) for placement in placements]
    tau_NR = np.average([tau for tau, _ in times], axis=0, weights=weights)
    moved_s = float(np.average([moved.sum() for _, moved in times], weights=weights))
    score_NK = np.full((N + 1, GRID_CELLS), -np.inf)
    if behind_K is None:
        score_NK[N, 0] = 0.0
    else:
        score_NK[N] = behind_K
    for n in range(N - 1, -1, -1):
        for i in np.flatnonzero(lut.mask_NR[n]):
            cells = floor_cells(tau_NR[n, i], cell_s)
            maximum_shifted_clipped(score_NK[n], score_NK[n + 1] + log_p_NR[n, i], cells)
    at_least_NK = np.maximum.accumulate(score_NK[:, ::-1], axis=1)[:, ::-1]
    return FixedSplitBounds(tau_NR[None], np.array([moved_s]), at_least_NK[None], cell_s, low_s, slack)
