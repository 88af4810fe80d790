"""What a network that is only begun can still come to: the nodes of derive.py's search, and their bounds."""

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import InfeasibleError
from jmsnas.nas.derivation.chain_bounds import (
    FixedSplitBounds,
    FreeSplitBounds,
    fixed_split_bounds,
    free_split_bounds,
)
from jmsnas.nas.derivation.lp_cuts import lp_cuts
from jmsnas.nas.derivation.mesh_bounds import MeshBounds, mesh_bounds
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.latency.feasible_range import longest_branch_s, slowest_remaining_s
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.split.placement import Placement

# Each cut is a table of 0.8 MB at 24 layers, and slows every node.
_MOST_CUTS = 32


@dataclass(frozen=True, slots=True)
class SearchNode:
    """Layers chosen so far, the line's before the branches'.

    `reached_s[m]`: least seconds until the last of them has run on state m; in a branch, one number: the
    line's own least T.
    """

    chosen: tuple[int, ...]
    score: float
    reached_s: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SiblingNodes:
    """What a node may become by its next layer, the best bound first; nodes are made when needed.

    `keys` are the bounds with their sign changed, rounded so that what differs by rounding alone is equal.
    """

    chosen: tuple[int, ...]
    keys: list[float]
    columns: list[int]
    scores: list[float]
    reached_RS: NDArray[np.float64]

    def node(self, k: int) -> SearchNode:
        """Make one."""
        return SearchNode((*self.chosen, self.columns[k]), self.scores[k], self.reached_RS[k])


@dataclass(frozen=True, slots=True)
class LayerStep:
    """A layer's candidates that there are: columns, log p, and on the line seconds on each state, (R, S)."""

    columns: NDArray[np.intp]
    log_p_R: NDArray[np.float64]
    U_RS: NDArray[np.float64]


@dataclass(slots=True)
class BranchAndBound:
    """What a node is judged by; `cuts` grows as splits are met that make a network too fast.

    `order`: the places, in the space, of the layers in the order they are chosen. `togo_LS`: what the line
    can still take at most, and the branches with it. Where memory or energy bind, the splits that are
    allowed depend on the operations: no bound then rests on a split that may be forbidden.
    """

    lut: LatencyLUT
    order: tuple[int, ...]
    steps: tuple[LayerStep, ...]
    log_p_NR: NDArray[np.float64]
    low_s: float
    high_s: float
    splits: FreeSplitBounds
    branches: MeshBounds | None
    slow_K: NDArray[np.float64] | None
    togo_LS: NDArray[np.float64]
    cuts: FixedSplitBounds | None = None
    known: set[tuple[int, ...]] = field(default_factory=set)

    @property
    def line_N(self) -> int:  # noqa: N802
        """Number of layers of the line."""
        return len(self.lut.main_path_layers)

    @property
    def cut_count(self) -> int:
        """How many cuts there are."""
        return len(self.cuts.moved_C) if self.cuts else 0

    def children(self, node: SearchNode) -> SiblingNodes:
        """Choose the next layer, every way that may end in the band."""
        n, step = len(node.chosen), self.steps[len(node.chosen)]
        scores_R = node.score + step.log_p_R
        if n < self.line_N:
            bounds_R, reached_RS = self._line_bounds(node, step)
        else:
            reached_s = self._line_least_s(node) if n == self.line_N else node.reached_s
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

    def _line_least_s(self, node: SearchNode) -> NDArray[np.float64]:
        """Give the line's own least T, all its layers being chosen; infinite where none is allowed."""
        line = self.lut.main_path
        if not line.limited:
            ends_S: NDArray[np.float64] = node.reached_s + line.moves_LMM[-1].min(axis=1)
            return np.array([ends_S.min()])
        try:
            return np.array([line.best(node.chosen)[0]])
        except InfeasibleError:
            return np.array([np.inf])

    def _line_bounds(
        self, node: SearchNode, step: LayerStep
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n, moves_LSS = len(node.chosen), self.lut.main_path.moves_LMM
        arrived_S = (node.reached_s[:, None] + moves_LSS[n, : len(node.reached_s)]).min(axis=0)
        reached_RS = arrived_S + step.U_RS
        bounds_R = self.splits.best(n + 1, reached_RS)
        if self.cuts:
            passed_C1 = self.cuts.passed(node.chosen)[:, None]
            tau_CR = self.cuts.tau_CNR[:, n, step.columns]
            bounds_R = np.minimum(bounds_R, self.cuts.best(n + 1, passed_C1 + tau_CR))
        most_R = (reached_RS + self.togo_LS[n + 1]).min(axis=1)
        bounds_R[most_R < self.low_s * (1 - 1e-9)] = -np.inf
        return bounds_R, reached_RS

    def _branch_bounds(
        self, node: SearchNode, columns: NDArray[np.intp], line_s: float
    ) -> NDArray[np.float64]:
        assert self.branches is not None
        if not np.isfinite(line_s):
            return np.full(len(columns), -np.inf)
        rest, low_s, high_s = node.chosen[self.line_N :], self.low_s - line_s, self.high_s - line_s
        return self.branches.best(rest, columns, low_s, high_s)

    def again(self, node: SearchNode) -> float:
        """Bound a node of the line by the cuts there are now."""
        n = len(node.chosen)
        if self.cuts is None or n > self.line_N:
            return np.inf
        return node.score + float(self.cuts.best(n, self.cuts.passed(node.chosen)[:, None])[0])

    def add_cut(self, placements: list[Placement], weights: list[float]) -> None:
        """Require from now on that a network is slow enough under these splits too."""
        line = self.lut.main_path
        if not placements or self.cut_count >= _MOST_CUTS or (self.branches and self.branches.limited):
            return
        if not all(line.always_holds(line.on_devices(path)) for path in placements):
            return
        slack = self.branches.slack if self.branches else 0
        log_p_NR = self.log_p_NR[list(self.lut.main_path_layers)]
        cut = fixed_split_bounds(
            log_p_NR, line, placements, weights, self.low_s, self.high_s, self.slow_K, slack
        )
        self.cuts = self.cuts.joined(cut) if self.cuts else cut

    def too_fast(self, indices: tuple[int, ...]) -> None:
        """Learn from a network that is too fast: require that others are slow enough under its split."""
        line = self.lut.main_path
        _, path = line.best_path(line.tau_NM([indices[n] for n in self.lut.main_path_layers]))
        if path.cuts not in self.known:
            self.known.add(path.cuts)
            self.add_cut([path], [1.0])


def branch_and_bound(
    p_NR: NDArray[np.float64], lut: LatencyLUT, low_s: float, high_s: float
) -> BranchAndBound:
    """Fill the bounds; the first cut is the mixture of splits that binds the relaxed network."""
    log_p_NR = np.log(np.where(lut.mask_NR, np.maximum(p_NR, 1e-30), 1.0))
    line, line_NR = lut.main_path, log_p_NR[list(lut.main_path_layers)]
    order = (*lut.main_path_layers, *itertools.chain(*lut.branch_layers))
    branches, behind_K, slow_K, points_2P, slack = None, None, None, None, 0
    togo_LS = slowest_remaining_s(
        np.where(line.mask_NR[:, :, None], line.U_NRS, -np.inf).max(axis=1), line.moves_LMM
    )
    if isinstance(lut, MeshLUT):
        branches = mesh_bounds(log_p_NR, lut, low_s, high_s)
        (behind_K, slow_K), slack = branches.behind_2G(), branches.slack
        # The scores worth having: better than those of all longer times.
        cells = np.flatnonzero(slow_K > np.append(slow_K[1:], -np.inf))
        points_2P = np.stack([slow_K[cells], cells * branches.cell_s])[:, :: max(1, len(cells) // 60)]
        togo_LS += longest_branch_s(lut)
    if lut.limited:
        togo_LS = np.full_like(togo_LS, np.inf)
    # Where limits bind, the way to a device that is allowed may be later than the earliest.
    least_s = 0.0 if line.limited else low_s
    splits = free_split_bounds(line_NR, line, least_s, high_s, behind_K, slack)
    steps = _steps(lut, order, log_p_NR)
    search = BranchAndBound(lut, order, steps, log_p_NR, low_s, high_s, splits, branches, slow_K, togo_LS)
    search.add_cut(*lp_cuts(line_NR, line, low_s, points_2P))
    return search


def _steps(lut: LatencyLUT, order: tuple[int, ...], log_p_NR: NDArray[np.float64]) -> tuple[LayerStep, ...]:
    U_NRS, found = lut.main_path.U_NRS, []
    for n, place in enumerate(order):
        columns = np.flatnonzero(lut.mask_NR[place])
        U_RS = U_NRS[n, columns] if n < len(lut.main_path_layers) else np.zeros((len(columns), 0))
        found.append(LayerStep(columns, log_p_NR[place, columns], U_RS))
    return tuple(found)


def in_space_order(order: tuple[int, ...], chosen: tuple[int, ...]) -> tuple[int, ...]:
    """Put candidates, in the order they were chosen, in the order of the space's layers."""
    return tuple(i for _, i in sorted(zip(order, chosen, strict=True)))
