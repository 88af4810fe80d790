"""Branch and bound over layers: partial architectures and upper bounds on their scores (see derive.py)."""

import itertools
from dataclasses import dataclass, field

import numpy as np

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.errors import InfeasibleError
from jmsnas.nas.derivation.chain_bounds import (
    GRID_CELLS,
    BranchScores,
    FixedSplitBounds,
    FreeSplitBounds,
    fixed_split_bounds,
    free_split_bounds,
)
from jmsnas.nas.derivation.limit_prices import limited_bounds
from jmsnas.nas.derivation.limited_bounds import LimitedBounds
from jmsnas.nas.derivation.lp_cuts import lp_cuts
from jmsnas.nas.derivation.mesh_bounds import MeshBounds, mesh_bounds
from jmsnas.nas.derivation.split_excess import SplitExcess, split_excess
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.split.placement import Placement

# Each fixed split is a table of 0.8 MB at 24 layers, and slows every node.
_MAX_SPLITS = 32


@dataclass(frozen=True, slots=True)
class SearchNode:
    """Candidates of the layers chosen so far: those of the main path, then those of the branches.

    `reached_s[m]`: least seconds until the last of them has run on state m, where limits bind for each first
    layer on its device (see limited_bounds.py); in a branch, one number: the least T of the main path.
    """

    chosen: tuple[int, ...]
    score: float
    reached_s: FloatArray


@dataclass(frozen=True, slots=True)
class SiblingNodes:
    """Children of a node by the candidate of the next layer, the best bound first; nodes are made lazily.

    `keys` are the negative bounds, rounded so that values that differ by rounding errors only are equal.
    """

    chosen: tuple[int, ...]
    keys: list[float]
    columns: list[int]
    scores: list[float]
    reached_RS: FloatArray

    def node(self, k: int) -> SearchNode:
        """Make child k."""
        return SearchNode((*self.chosen, self.columns[k]), self.scores[k], self.reached_RS[k])


@dataclass(frozen=True, slots=True)
class LayerStep:
    """Candidates of a layer: columns, log p, and on the main path seconds on each state, (R, S)."""

    columns: IntArray
    log_p_R: FloatArray
    U_RS: FloatArray


@dataclass(slots=True)
class BranchAndBound:
    """Bounds of a search; `fixed_splits` grows by the splits that make an architecture too fast.

    `order`: indices, in the space, of the layers in the order they are chosen. `remaining_LS`: upper bound on
    the remaining latency after n layers of the main path, with the branches. Where memory or energy bind on
    the main path, `free_splits` prices them, and `excess` bounds the architectures for which limits forbid a
    fixed split.
    """

    lut: LatencyLUT
    order: tuple[int, ...]
    steps: tuple[LayerStep, ...]
    log_p_NR: FloatArray
    low_s: float
    high_s: float
    free_splits: FreeSplitBounds | LimitedBounds
    branches: MeshBounds | None
    branch_scores: BranchScores
    remaining_LS: FloatArray
    limited: bool
    grid_cells: int
    fixed_splits: FixedSplitBounds | None = None
    excess: SplitExcess | None = None
    known: set[tuple[int, ...]] = field(default_factory=set)

    @property
    def main_path_N(self) -> int:  # noqa: N802
        """Number of layers of the main path."""
        return len(self.lut.main_path_layers)

    @property
    def split_count(self) -> int:
        """Number of fixed splits that the bounds use."""
        return len(self.fixed_splits.moved_C) if self.fixed_splits else 0

    def children(self, node: SearchNode) -> SiblingNodes:
        """Expand a node by every candidate of the next layer that may end in the band."""
        n, step = len(node.chosen), self.steps[len(node.chosen)]
        scores_R = node.score + step.log_p_R
        if n < self.main_path_N:
            bounds_R, reached_RS = self._main_path_bounds(node, step)
        else:
            reached_s = self._main_path_least_s(node) if n == self.main_path_N else node.reached_s
            reached_RS = np.broadcast_to(reached_s, (len(step.columns), 1))
            bounds_R = self._branch_bounds(node, step.columns, float(reached_s[0]))
        keys_R = np.round(-(bounds_R + scores_R), 9)
        # Of equal bounds the last column goes first.
        order = np.argsort(keys_R[::-1], kind="stable")
        best = (len(keys_R) - 1 - order)[: np.count_nonzero(keys_R < np.inf)]
        return SiblingNodes(
            node.chosen,
            keys_R[best].tolist(),
            step.columns[best].tolist(),
            scores_R[best].tolist(),
            reached_RS[best],
        )

    def _main_path_least_s(self, node: SearchNode) -> FloatArray:
        """Least T of the main path when all its layers are chosen; infinite where no split is allowed."""
        if isinstance(self.free_splits, LimitedBounds):
            return np.array([self.free_splits.least_s(node.chosen, node.reached_s)])
        ends_S: FloatArray = node.reached_s + self.lut.main_path.moves_LMM[-1].min(axis=1)
        return np.array([ends_S.min()])

    def _main_path_bounds(self, node: SearchNode, step: LayerStep) -> tuple[FloatArray, FloatArray]:
        n, moves_LSS = len(node.chosen), self.lut.main_path.moves_LMM
        if isinstance(self.free_splits, LimitedBounds):
            labels = self.free_splits.labels(node.chosen, node.reached_s, step.columns)
            reached_RS = labels.reached_RSB
            bounds_R = self.free_splits.bound(node.chosen, labels, step.columns)
        else:
            arrived_S = (node.reached_s[:, None] + moves_LSS[n, : len(node.reached_s)]).min(axis=0)
            reached_RS = arrived_S + step.U_RS
            bounds_R = self.free_splits.bound(n + 1, reached_RS)
        if self.fixed_splits:
            bounds_R = np.minimum(bounds_R, self._fixed_split_bounds(node.chosen, step.columns))
        if not self.limited:
            latest_R = (reached_RS + self.remaining_LS[n + 1]).min(axis=1)
            bounds_R[latest_R < self.low_s * (1 - 1e-9)] = -np.inf
        return bounds_R, reached_RS

    def _fixed_split_bounds(self, chosen: tuple[int, ...], columns: IntArray) -> FloatArray:
        assert self.fixed_splits is not None
        n, passed_C1 = len(chosen), self.fixed_splits.passed(chosen)[:, None]
        over_CR = self.excess.bound(chosen, columns, self.split_count) if self.excess else -np.inf
        passed_CR = passed_C1 + self.fixed_splits.tau_CNR[:, n, columns]
        return self.fixed_splits.bound(n + 1, passed_CR, over_CR)

    def _branch_bounds(self, node: SearchNode, columns: IntArray, main_path_s: float) -> FloatArray:
        assert self.branches is not None
        if not np.isfinite(main_path_s):
            return np.full(len(columns), -np.inf)
        low_s, high_s = self.low_s - main_path_s, self.high_s - main_path_s
        return self.branches.bound(node.chosen[self.main_path_N :], columns, low_s, high_s)

    def updated_bound(self, node: SearchNode) -> float:
        """Bound a node of the main path by the current fixed splits."""
        if self.fixed_splits is None or not 0 < len(node.chosen) <= self.main_path_N:
            return np.inf
        *before, last = node.chosen
        return node.score + float(self._fixed_split_bounds(tuple(before), np.array([last]))[0])

    def add_fixed_split(self, placements: list[Placement], weights: list[float]) -> None:
        """Add the constraint that architectures are slow enough under a weighted mean of splits."""
        line = self.lut.main_path
        if not placements or self.split_count >= _MAX_SPLITS or (self.branches and self.branches.limited):
            return
        log_p_NR = self.log_p_NR[list(self.lut.main_path_layers)]
        if line.limited:
            behind = float(self.branch_scores.at_least_K.max())
            excess = split_excess(log_p_NR, line, placements, behind)
            self.excess = self.excess.joined(excess, self.split_count) if self.excess else excess
        added = fixed_split_bounds(
            log_p_NR,
            line,
            placements,
            weights,
            self.low_s,
            self.high_s,
            self.branch_scores,
            self.grid_cells,
        )
        self.fixed_splits = self.fixed_splits.joined(added) if self.fixed_splits else added

    def refine(self, node: SearchNode) -> None:
        """Add the constraint of the best split of a node's likeliest completion if that is too fast."""
        if isinstance(self.free_splits, LimitedBounds):
            self.free_splits.add_feasibility()
        indices = np.where(self.lut.mask_NR, self.log_p_NR, -np.inf).argmax(axis=1)
        indices[list(self.order[: len(node.chosen)])] = node.chosen
        try:
            latency_s, _ = self.lut.best_split(indices.tolist())
        except InfeasibleError:
            return
        if latency_s < self.low_s:
            self.add_fast_architecture(tuple(indices.tolist()))

    def add_fast_architecture(self, indices: tuple[int, ...]) -> None:
        """Add the constraint of the best split of an architecture that is too fast."""
        line = self.lut.main_path
        chosen = [indices[n] for n in self.lut.main_path_layers]
        if (
            line.limited and not line.states
        ):  # the best split that is allowed, in devices: these are the states
            _, path = line.best_split(chosen)
        else:
            _, path = line.best_path(line.tau_NM(chosen))
        if path.cuts not in self.known:
            self.known.add(path.cuts)
            self.add_fixed_split([path], [1.0])


def branch_and_bound(
    p_NR: FloatArray, lut: LatencyLUT, low_s: float, high_s: float, grid_cells: int = GRID_CELLS
) -> BranchAndBound:
    """Compute the bounds of a search; the first fixed split is the mixture that binds the relaxed problem."""
    log_p_NR = np.log(np.where(lut.mask_NR, np.maximum(p_NR, 1e-30), 1.0))
    line, main_path_NR = lut.main_path, log_p_NR[list(lut.main_path_layers)]
    order = (*lut.main_path_layers, *itertools.chain(*lut.branch_layers))
    branches, scores, points_2P = None, BranchScores(), None
    if isinstance(lut, MeshLUT):
        branches = mesh_bounds(log_p_NR, lut, low_s, high_s, grid_cells)
        scores = branches.branch_scores()
        slow_K = scores.at_least_K
        # Scores better than those of all longer times.
        cells = np.flatnonzero(slow_K > np.append(slow_K[1:], -np.inf))
        points_2P = np.stack([slow_K[cells], cells * branches.cell_s])[:, :: max(1, len(cells) // 60)]
    remaining_LS = line.slowest_remaining_s() + lut.slowest_branch_s()
    splits: FreeSplitBounds | LimitedBounds
    if line.limited:
        splits = limited_bounds(main_path_NR, line, low_s, high_s, scores, grid_cells)
    else:
        splits = free_split_bounds(main_path_NR, line, low_s, high_s, scores, grid_cells)
    search = BranchAndBound(
        lut=lut,
        order=order,
        steps=_steps(lut, order, log_p_NR),
        log_p_NR=log_p_NR,
        low_s=low_s,
        high_s=high_s,
        free_splits=splits,
        branches=branches,
        branch_scores=scores,
        remaining_LS=remaining_LS,
        limited=lut.limited,
        grid_cells=grid_cells,
    )
    search.add_fixed_split(*lp_cuts(main_path_NR, line, low_s, points_2P))
    return search


def _steps(lut: LatencyLUT, order: tuple[int, ...], log_p_NR: FloatArray) -> tuple[LayerStep, ...]:
    U_NRS, found = lut.main_path.U_NRS, []
    for n, layer in enumerate(order):
        columns = np.flatnonzero(lut.mask_NR[layer])
        U_RS = U_NRS[n, columns] if n < len(lut.main_path_layers) else np.zeros((len(columns), 0))
        found.append(LayerStep(columns, log_p_NR[layer, columns], U_RS))
    return tuple(found)


def in_space_order(order: tuple[int, ...], chosen: tuple[int, ...]) -> tuple[int, ...]:
    """Sort candidates from the order they were chosen in into the order of the space's layers."""
    return tuple(i for _, i in sorted(zip(order, chosen, strict=True)))
