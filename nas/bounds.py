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
from scipy.optimize import linprog

from jmsnas.nas.latency_lut import LatencyLUT
from jmsnas.nas.placement import Placement
from jmsnas.nas.split import best_split

CELLS = 4000


def _floor_cells(seconds: float, cell_s: float) -> int:
    return math.floor(seconds / cell_s * (1 - 1e-12))


@dataclass(frozen=True, slots=True)
class SplitBounds:
    """Best score of layers n.. when layer n-1 ran on device m and exactly k cells remain, over all splits.

    `score_NMK[n, m, k]`; row 0 starts at the first device.
    """

    score_NMK: NDArray[np.float64]
    cell_s: float
    M: int

    def best(self, n: int, reached_s: NDArray[np.float64], low_s: float, high_s: float) -> float:
        """Bound the score of layers n.. if T must lie in [low_s, high_s] `reached_s[m]` having passed."""
        slack = self.score_NMK.shape[0] - n + self.M
        best = -math.inf
        for m, at_s in enumerate(reached_s.tolist()):
            if at_s <= high_s:
                last = math.floor((high_s - at_s) / self.cell_s * (1 + 1e-12)) + 1
                first = max(0, _floor_cells(low_s - at_s, self.cell_s) - slack)
                window = self.score_NMK[n, m, first:last]
                if window.size:
                    best = max(best, float(window.max()))
        return best


def split_bounds(log_p_NR: NDArray[np.float64], lut: LatencyLUT, high_s: float) -> SplitBounds:
    """Fill the bounds from the last layer back: O(N M (R + M) K) vector operations."""
    N, _, M = lut.U_NRM.shape
    cell_s = high_s / (CELLS - 1)
    score_NMK = np.full((N + 1, M, CELLS), -np.inf)
    for m in range(M):
        if np.isfinite(lut.moves_LMM[N, m].min()):
            _raise_shifted(score_NMK[N, m], np.zeros(1), _floor_cells(lut.moves_LMM[N, m].min(), cell_s))
    for n in range(N - 1, -1, -1):
        ran_MK = np.full((M, CELLS), -np.inf)
        for m in range(M):
            for i in np.flatnonzero(lut.mask_NR[n]):
                cells = _floor_cells(lut.U_NRM[n, i, m], cell_s)
                _raise_shifted(ran_MK[m], score_NMK[n + 1, m] + log_p_NR[n, i], cells)
        for a in range(M if n else 1):
            for b in range(a, M):
                if np.isfinite(lut.moves_LMM[n, a, b]):
                    _raise_shifted(score_NMK[n, a], ran_MK[b], _floor_cells(lut.moves_LMM[n, a, b], cell_s))
    return SplitBounds(score_NMK, cell_s, M)


def _raise_shifted(target_K: NDArray[np.float64], source_K: NDArray[np.float64], cells: int) -> None:
    """Raise target[k + cells] to source[k] where that is larger; times beyond the grid are over the limit."""
    if cells < len(target_K):
        part = target_K[cells : cells + len(source_K)]
        np.maximum(part, source_K[: len(part)], out=part)


@dataclass(frozen=True, slots=True)
class CutBounds:
    """Bounds along fixed splits: an honest network is at least `low_s` slow under EVERY split.

    So it is under any weighted mean of splits, too, which bounds several of them at once. `tau_NR` and
    `moved_s` are the mean's times, layer by layer (moves before layer n, and behind the last);
    `score_NK[n, k]` is the best score of layers n.. that take at least k cells.
    """

    tau_NR: NDArray[np.float64]
    moved_s: NDArray[np.float64]
    score_NK: NDArray[np.float64]
    cell_s: float

    def best(self, chosen: tuple[int, ...], low_s: float) -> float:
        """Bound the score of the layers that remain after `chosen` if the mean must reach `low_s`."""
        n, N = len(chosen), len(self.tau_NR)
        passed_s = float(self.tau_NR[np.arange(n), list(chosen)].sum() + self.moved_s.sum())
        missing_s = low_s - passed_s
        if n == N:
            return 0.0 if missing_s <= 1e-9 * low_s else -math.inf
        cells = _floor_cells(missing_s, self.cell_s) - (N - n)
        return float(self.score_NK[n, max(0, min(cells, CELLS - 1))])


def cut_times(lut: LatencyLUT, placement: Placement) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds of every candidate under a split, (N, R), and of the moves before each layer and at the end."""
    N = len(lut.U_NRM)
    path = (0, *placement.devices)
    moved = [lut.moves_LMM[n, path[n], path[n + 1]] for n in range(N)]
    moved.append(lut.moves_LMM[N, path[N]].min())
    return lut.U_NRM[np.arange(N), :, list(placement.devices)], np.array(moved)


def cut_bounds(
    log_p_NR: NDArray[np.float64],
    lut: LatencyLUT,
    placements: Sequence[Placement],
    weights: Sequence[float],
    high_s: float,
) -> CutBounds:
    """Fill the bounds of a weighted mean of splits (weights sum to 1) from the last layer back."""
    N = len(log_p_NR)
    cell_s = high_s / (CELLS - 1)
    times = [cut_times(lut, placement) for placement in placements]
    tau_NR = np.average([tau for tau, _ in times], axis=0, weights=weights)
    moved_s = np.average([moved for _, moved in times], axis=0, weights=weights)
    score_NK = np.full((N + 1, CELLS), -np.inf)
    score_NK[N, 0] = 0.0
    for n in range(N - 1, -1, -1):
        for i in np.flatnonzero(lut.mask_NR[n]):
            cells = min(_floor_cells(tau_NR[n, i], cell_s), CELLS - 1)
            gained_K = score_NK[n + 1] + log_p_NR[n, i]
            _raise_shifted(score_NK[n], gained_K, cells)
            score_NK[n, -1] = max(score_NK[n, -1], gained_K[CELLS - 1 - cells :].max())
    at_least_NK = np.maximum.accumulate(score_NK[:, ::-1], axis=1)[:, ::-1]
    return CutBounds(tau_NR, moved_s, at_least_NK, cell_s)


def binding_splits(
    log_p_NR: NDArray[np.float64], lut: LatencyLUT, low_s: float, rounds: int = 40
) -> tuple[list[Placement], list[float]]:
    """Find the splits, and their weights, that keep the best network from being too fast.

    Linear programme over mixtures x of candidates: max sum x log p such that T under every split reaches
    `low_s`; splits are added as the relaxed network breaks them, the weights are the constraints' prices.
    Both empty when nothing binds.
    """
    N, R = log_p_NR.shape
    rows, columns = np.nonzero(lut.mask_NR)
    one_each = np.zeros((N, len(rows)))
    one_each[rows, np.arange(len(rows))] = 1
    placements: list[Placement] = []
    limits: list[NDArray[np.float64]] = []
    needed: list[float] = []
    prices = np.zeros(0)
    for _ in range(rounds):
        found = linprog(
            -log_p_NR[rows, columns],
            A_ub=-np.array(limits) if limits else None,
            b_ub=-np.array(needed) if needed else None,
            A_eq=one_each,
            b_eq=np.ones(N),
        )
        if found.status != 0:
            break  # no mixture is that slow: any split that was broken proves it
        prices = -found.ineqlin.marginals if limits else prices
        x_NR = np.zeros((N, R))
        x_NR[rows, columns] = found.x
        latency_s, placement = best_split(np.einsum("nr,nrm->nm", x_NR, lut.U_NRM), lut.moves_LMM)
        if latency_s >= low_s * (1 - 1e-9):
            break
        tau_NR, moved_s = cut_times(lut, placement)
        placements.append(placement)
        limits.append(tau_NR[rows, columns])
        needed.append(low_s - float(moved_s.sum()))
    prices = np.concatenate([prices, np.zeros(len(placements) - len(prices))])
    if not prices.sum() > 0:
        return [], []
    return placements, (prices / prices.sum()).tolist()
