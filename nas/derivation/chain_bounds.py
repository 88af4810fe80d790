"""Upper bounds on the score of the layers that remain on a chain, on a grid of time; see derive.py.

N layers, R candidates, M devices, K grid cells of `cell_s` seconds. The time of each term is rounded down, so
a true remaining time of t seconds is at most `slack` cells above its cell: windows are widened by that, so
that every bound holds for the true times.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.arrays import FloatArray
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.split.placement import Placement

GRID_CELLS = 4000


def floor_cells(seconds: float, cell_s: float) -> int:
    """Round a time down to cells; a whole number of cells may lose one to rounding errors."""
    return math.floor(seconds / cell_s * (1 - 1e-12))


@dataclass(frozen=True, slots=True)
class BranchScores:
    """Best scores of the branches of a mesh by the cells k that the slowest takes; of a chain: none.

    `exact_K`: exactly k cells under some assignment of children; `at_least_K`: at least k cells under every
    assignment. `slack`: cells that rounding may lose.
    """

    exact_K: FloatArray = field(default_factory=lambda: np.zeros(1))
    at_least_K: FloatArray = field(default_factory=lambda: np.zeros(1))
    slack: int = 0


@dataclass(frozen=True, slots=True)
class FreeSplitBounds:
    """Best score of layers n.. when layer n-1 ended on state s and T must end in the band, over all splits.

    `window_NSJ[n, s, j]`: the best score whose remaining time lies in the window of cells that starts `pad`
    cells before cell j; row 0 starts at the first state. `first_N`: cells that rounding may lose.
    """

    window_NSJ: FloatArray
    first_N: NDArray[np.int64]
    pad: int
    cell_s: float
    low_s: float
    high_s: float

    def bound(self, n: int, reached_RS: FloatArray) -> FloatArray:
        """Bound the score of layers n.. of R nodes after `reached_RS` seconds, (R,)."""
        first = self.pad - self.first_N[n]
        at_RS = (self.low_s - reached_RS) * ((1 - 1e-12) / self.cell_s) + first
        table_SJ = self.window_NSJ[n, : reached_RS.shape[1]]
        J = table_SJ.shape[1]
        # The cast rounds towards 0, which is down here: negative values were clipped to 0.
        found_RS = table_SJ[np.arange(len(table_SJ)), at_RS.clip(0, J - 1).astype(np.intp)]
        found_RS[reached_RS > self.high_s] = -np.inf
        best_R: FloatArray = found_RS.max(axis=1)
        return best_R


def window_bounds(
    score_NSK: FloatArray, cell_s: float, low_s: float, high_s: float, slack: int
) -> FreeSplitBounds:
    """Take the best score in each window of time as wide as the band plus the cells rounding may lose."""
    N = len(score_NSK) - 1
    first_N = np.arange(N, -1, -1) + slack
    width = math.ceil((high_s - low_s) / cell_s) + 2
    pad = width + int(first_N[0])
    table_NSJ = np.pad(score_NSK, ((0, 0), (0, 0), (pad, 0)), constant_values=-np.inf)
    for n in range(N + 1):
        sliding_maximum(table_NSJ[n], width + int(first_N[n]))
    return FreeSplitBounds(table_NSJ, first_N, pad, cell_s, low_s, high_s)


def sliding_maximum(table_SJ: FloatArray, width: int) -> None:
    """Replace value j by the maximum of the `width` values from j on, in place, by doubling spans."""
    span = 1
    while span < min(width, table_SJ.shape[1]):
        step = min(span, width - span)
        np.maximum(table_SJ[:, :-step], table_SJ[:, step:], out=table_SJ[:, :-step])
        span += step


def free_split_bounds(
    log_p_NR: FloatArray,
    lut: ChainLUT,
    low_s: float,
    high_s: float,
    branches: BranchScores = BranchScores(),
    grid_cells: int = GRID_CELLS,
) -> FreeSplitBounds:
    """Compute the bounds from the last layer back, in O(N M (R + M) K) vector operations."""
    U_NRS = lut.U_NRS
    N, _, M = U_NRS.shape
    cell_s = high_s / (grid_cells - 1)
    score_NMK = np.full((N + 1, M, grid_cells), -np.inf)
    for m in range(M):
        if np.isfinite(lut.moves_LMM[N, m].min()):
            maximum_shifted(score_NMK[N, m], branches.exact_K, floor_cells(lut.moves_LMM[N, m].min(), cell_s))
    for n in range(N - 1, -1, -1):
        ran_MK = np.full((M, grid_cells), -np.inf)
        for m in np.flatnonzero(np.isfinite(lut.moves_LMM[n]).any(axis=0)).tolist():
            for i in np.flatnonzero(lut.mask_NR[n]):
                cells = floor_cells(U_NRS[n, i, m], cell_s)
                maximum_shifted(ran_MK[m], score_NMK[n + 1, m] + log_p_NR[n, i], cells)
        for a in range(M if n else 1):
            for b in range(a, M):
                if np.isfinite(lut.moves_LMM[n, a, b]):
                    maximum_shifted(score_NMK[n, a], ran_MK[b], floor_cells(lut.moves_LMM[n, a, b], cell_s))
    return window_bounds(score_NMK, cell_s, low_s, high_s, M + branches.slack)


def maximum_shifted(target_K: FloatArray, source_K: FloatArray, cells: int) -> None:
    """Set target[k + cells] to the maximum of itself and source[k]; times beyond the grid are dropped."""
    if cells < len(target_K):
        part = target_K[cells : cells + len(source_K)]
        np.maximum(part, source_K[: len(part)], out=part)


def maximum_shifted_clipped(target_K: FloatArray, source_K: FloatArray, cells: int) -> None:
    """Do as `maximum_shifted`, with all times beyond the grid in the last cell."""
    cells = min(cells, len(target_K) - 1)
    maximum_shifted(target_K, source_K, cells)
    target_K[-1] = max(target_K[-1], source_K[len(target_K) - 1 - cells :].max())


@dataclass(frozen=True, slots=True)
class FixedSplitBounds:
    """Bounds under C fixed splits: an architecture in the band takes at least `low_s` under EVERY split.

    The same holds under any weighted mean of splits, which bounds several at once: C counts means. `tau_CNR`
    and `moved_C` are the times of a mean; `score_CNK[c, n, k]` is the best score of layers n.. that take at
    least k cells, branches included (see `BranchScores`), whose rounding loses `slack` cells.
    """

    tau_CNR: FloatArray
    moved_C: FloatArray
    score_CNK: FloatArray
    cell_s: float
    low_s: float
    slack: int = 0

    def passed(self, chosen: tuple[int, ...]) -> FloatArray:
        """Seconds of the chosen layers and of all moves, (C,)."""
        passed_C: FloatArray = self.tau_CNR[:, np.arange(len(chosen)), list(chosen)].sum(axis=1)
        return passed_C + self.moved_C

    def bound(self, n: int, passed_CR: FloatArray, over_CR: FloatArray | float = -np.inf) -> FloatArray:
        """Bound the score of layers n.. of R nodes that must take `low_s` in all, (R,).

        `over_CR`: bounds of those that need not be slow under a split, as it exceeds a limit.
        """
        C, N = self.tau_CNR.shape[:2]
        cells_CR = np.floor((self.low_s - passed_CR) * ((1 - 1e-12) / self.cell_s)) - (N - n) - self.slack
        at_CR = np.clip(cells_CR, 0, self.score_CNK.shape[2] - 1).astype(np.intp)
        found_CR = self.score_CNK[np.arange(C)[:, None], n, at_CR]
        best_R: FloatArray = np.maximum(found_CR, over_CR).min(axis=0, initial=np.inf)
        return best_R

    def joined(self, other: "FixedSplitBounds") -> "FixedSplitBounds":
        """Concatenate the bounds of both."""
        return replace(
            self,
            tau_CNR=np.concatenate([self.tau_CNR, other.tau_CNR]),
            moved_C=np.concatenate([self.moved_C, other.moved_C]),
            score_CNK=np.concatenate([self.score_CNK, other.score_CNK]),
        )


def split_times_s(lut: ChainLUT, placement: Placement) -> tuple[FloatArray, FloatArray]:
    """Seconds of every candidate under a split, (N, R), of the moves before each layer, and at the end."""
    N, U_NRS = len(lut.U_NRM), lut.U_NRS
    path = (0, *placement.devices)
    moved = [lut.moves_LMM[n, path[n], path[n + 1]] for n in range(N)]
    moved.append(lut.moves_LMM[N, path[N]].min())
    return U_NRS[np.arange(N), :, list(placement.devices)], np.array(moved)


def fixed_split_bounds(
    log_p_NR: FloatArray,
    lut: ChainLUT,
    placements: Sequence[Placement],
    weights: Sequence[float],
    low_s: float,
    high_s: float,
    branches: BranchScores = BranchScores(),
    grid_cells: int = GRID_CELLS,
) -> FixedSplitBounds:
    """Compute the bounds of a weighted mean of splits (weights sum to 1) from the last layer back."""
    N = len(log_p_NR)
    cell_s = high_s / (grid_cells - 1)
    times = [split_times_s(lut, placement) for placement in placements]
    tau_NR = np.average([tau for tau, _ in times], axis=0, weights=weights)
    moved_s = float(np.average([moved.sum() for _, moved in times], weights=weights))
    score_NK = np.full((N + 1, grid_cells), -np.inf)
    score_NK[N, : len(branches.at_least_K)] = branches.at_least_K
    for n in range(N - 1, -1, -1):
        for i in np.flatnonzero(lut.mask_NR[n]):
            cells = floor_cells(tau_NR[n, i], cell_s)
            maximum_shifted_clipped(score_NK[n], score_NK[n + 1] + log_p_NR[n, i], cells)
    at_least_NK = np.maximum.accumulate(score_NK[:, ::-1], axis=1)[:, ::-1]
    return FixedSplitBounds(
        tau_NR[None], np.array([moved_s]), at_least_NK[None], cell_s, low_s, branches.slack
    )
