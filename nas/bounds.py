"""Upper bounds on the score of what can still be chosen, on a grid of time: the heuristic of derive.py.

N layers, R candidates, M devices, K grid cells of `cell_s` seconds. Each term's time is rounded down, so a
true remaining time of t seconds lies at most `slack` cells above its cell: windows are widened by that,
every bound holds for the true times, and nothing is lost to the grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.nas.chain_lut import ChainLUT
from jmsnas.nas.placement import Placement

CELLS = 4000


def floor_cells(seconds: float, cell_s: float) -> int:
    """Give the whole cells in a time; a time that is a whole number of cells may lose one to rounding."""
    return math.floor(seconds / cell_s * (1 - 1e-12))


@dataclass(frozen=True, slots=True)
class SplitBounds:
    """Best score of layers n.. when layer n-1 ran on device m and exactly k cells remain, over all splits.

    `score_NMK[n, m, k]`; row 0 starts at the first device. `slack`: cells that what follows the last layer
    may lose to rounding.
    """

    score_NMK: NDArray[np.float64]
    cell_s: float
    M: int
    slack: int = 0

    def best(self, n: int, reached_s: NDArray[np.float64], low_s: float, high_s: float) -> float:
        """Bound the score of layers n.. if T must lie in [low_s, high_s] `reached_s[m]` having passed."""
        slack = self.score_NMK.shape[0] - n + self.M + self.slack
        best = -math.inf
        for m, at_s in enumerate(reached_s.tolist()):
            if at_s <= high_s:
                last = math.floor((high_s - at_s) / self.cell_s * (1 + 1e-12)) + 1
                first = max(0, floor_cells(low_s - at_s, self.cell_s) - slack)
                window = self.score_NMK[n, m, first:last]
                if window.size:
                    best = max(best, float(window.max()))
        return best


def split_bounds(
    log_p_NR: NDArray[np.float64],
    lut: ChainLUT,
    high_s: float,
    behind_K: NDArray[np.float64] | None = None,
    slack: int = 0,
) -> SplitBounds:
    """Fill the bounds from the last layer back: O(N M (R + M) K) vector operations.

    `behind_K`: best score of what else takes exactly k cells, whatever the split (the branches of a mesh);
    None for nothing. `slack` as of `SplitBounds`.
    """
    U_NRS = lut.U_NRS
    N, _, M = U_NRS.shape
    behind_K = np.zeros(1) if behind_K is None else behind_K
    cell_s = high_s / (CELLS - 1)
    score_NMK = np.full((N + 1, M, CELLS), -np.inf)
    for m in range(M):
        if np.isfinite(lut.moves_LMM[N, m].min()):
            raise_shifted(score_NMK[N, m], behind_K, floor_cells(lut.moves_LMM[N, m].min(), cell_s))
    for n in range(N - 1, -1, -1):
        ran_MK = np.full((M, CELLS), -np.inf)
        for m in range(M):
            for i in np.flatnonzero(lut.mask_NR[n]):
                cells = floor_cells(U_NRS[n, i, m], cell_s)
                raise_shifted(ran_MK[m], score_NMK[n + 1, m] + log_p_NR[n, i], cells)
        for a in range(M if n else 1):
            for b in range(a, M):
                if np.isfinite(lut.moves_LMM[n, a, b]):
                    raise_shifted(score_NMK[n, a], ran_MK[b], floor_cells(lut.moves_LMM[n, a, b], cell_s))
    return SplitBounds(score_NMK, cell_s, M, slack)


def raise_shifted(target_K: NDArray[np.float64], source_K: NDArray[np.float64], cells: int) -> None:
    """Raise target[k + cells] to source[k] where that is larger; times beyond the grid are over the limit."""
    if cells < len(target_K):
        part = target_K[cells : cells + len(source_K)]
        np.maximum(part, source_K[: len(part)], out=part)


def raise_shifted_or_last(target_K: NDArray[np.float64], source_K: NDArray[np.float64], cells: int) -> None:
    """Raise as `raise_shifted` does; the last cell holds all times beyond the grid too."""
    cells = min(cells, CELLS - 1)
    raise_shifted(target_K, source_K, cells)
    target_K[-1] = max(target_K[-1], source_K[CELLS - 1 - cells :].max())


@dataclass(frozen=True, slots=True)
class CutBounds:
    """Bounds along fixed splits: an honest network is at least `low_s` slow under EVERY split.

    So it is under any weighted mean of splits, too, which bounds several of them at once. `tau_NR` and
    `moved_s` are the mean's times, layer by layer (moves before layer n, and behind the last);
    `score_NK[n, k]` is the best score of layers n.. that take at least k cells, with what is `behind` them
    (see `split_bounds`).
    """

    tau_NR: NDArray[np.float64]
    moved_s: NDArray[np.float64]
    score_NK: NDArray[np.float64]
    cell_s: float
    slack: int = 0
    behind: bool = False

    def best(self, chosen: tuple[int, ...], low_s: float) -> float:
        """Bound the score of the layers that remain after `chosen` if the mean must reach `low_s`."""
        n, N = len(chosen), len(self.tau_NR)
        passed_s = float(self.tau_NR[np.arange(n), list(chosen)].sum() + self.moved_s.sum())
        missing_s = low_s - passed_s
        if n == N and not self.behind:
            return 0.0 if missing_s <= 1e-9 * low_s else -math.inf
        cells = floor_cells(missing_s, self.cell_s) - (N - n) - self.slack
        return float(self.score_NK[n, max(0, min(cells, CELLS - 1))])


def cut_times(lut: ChainLUT, placement: Placement) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds of every candidate under a split, (N, R), and of the moves before each layer and at the end."""
    N, U_NRS = len(lut.U_NRM), lut.U_NRS
    path = (0, *placement.devices)
    moved = [lut.moves_LMM[n, path[n], path[n + 1]] for n in range(N)]
    moved.append(lut.moves_LMM[N, path[N]].min())
    return U_NRS[np.arange(N), :, list(placement.devices)], np.array(moved)


def cut_bounds(
    log_p_NR: NDArray[np.float64],
    lut: ChainLUT,
    placements: Sequence[Placement],
    weights: Sequence[float],
    high_s: float,
    behind_K: NDArray[np.float64] | None = None,
    slack: int = 0,
) -> CutBounds:
    """Fill the bounds of a weighted mean of splits (weights sum to 1) from the last layer back."""
    N = len(log_p_NR)
    cell_s = high_s / (CELLS - 1)
    times = [cut_times(lut, placement) for placement in placements]
    tau_NR = np.average([tau for tau, _ in times], axis=0, weights=weights)
    moved_s = np.average([moved for _, moved in times], axis=0, weights=weights)
    score_NK = np.full((N + 1, CELLS), -np.inf)
    if behind_K is None:
        score_NK[N, 0] = 0.0
    else:
        score_NK[N] = behind_K
    for n in range(N - 1, -1, -1):
        for i in np.flatnonzero(lut.mask_NR[n]):
            cells = floor_cells(tau_NR[n, i], cell_s)
            raise_shifted_or_last(score_NK[n], score_NK[n + 1] + log_p_NR[n, i], cells)
    at_least_NK = np.maximum.accumulate(score_NK[:, ::-1], axis=1)[:, ::-1]
    return CutBounds(tau_NR, moved_s, at_least_NK, cell_s, slack, behind_K is not None)
