"""What a network that is only begun can still come to: the nodes of derive.py's search, and their bounds."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import TargetError
from jmsnas.nas.binding import binding_splits
from jmsnas.nas.bounds import CutBounds, SplitBounds, cut_bounds, split_bounds
from jmsnas.nas.chain_lut import ChainLUT
from jmsnas.nas.latency_lut import LatencyLUT
from jmsnas.nas.mesh_bounds import MeshBounds, mesh_bounds
from jmsnas.nas.mesh_lut import MeshLUT
from jmsnas.nas.placement import Placement


@dataclass(frozen=True, slots=True)
class Node:
    """Layers chosen so far, the line's before the branches'.

    `reached_s[m]`: least seconds until the last of them has run on state m; in a branch, one number: the
    line's own least T.
    """

    chosen: tuple[int, ...]
    score: float
    reached_s: NDArray[np.float64]


@dataclass(slots=True)
class Judge:
    """What a node is judged by; `cuts` grows as splits are met that make a network too fast.

    `order`: the places, in the space, of the layers in the order they are chosen. `bound_low_s`: what the
    bounds take for `low_s`.
    """

    lut: LatencyLUT
    order: tuple[int, ...]
    log_p_NR: NDArray[np.float64]
    low_s: float
    high_s: float
    bound_low_s: float
    splits: SplitBounds
    branches: MeshBounds | None
    slow_K: NDArray[np.float64] | None
    cuts: list[CutBounds] = field(default_factory=list)
    known: set[tuple[int, ...]] = field(default_factory=set)

    @property
    def line_N(self) -> int:  # noqa: N802
        """Number of layers of the line."""
        return len(self.lut.line_layers)

    def bound(self, node: Node) -> float:
        """Score no network in the band that begins as `node` exceeds; minus infinity if there is none."""
        n = len(node.chosen)
        if self.branches and n > self.line_N:
            line_s = float(node.reached_s[0])
            rest = node.chosen[self.line_N :]
            return node.score + self.branches.best(rest, self.bound_low_s - line_s, self.high_s - line_s)
        best = self.splits.best(n, node.reached_s, self.bound_low_s, self.high_s)
        for cut in self.cuts:
            best = min(best, cut.best(node.chosen, self.low_s))
        return node.score + best

    def key(self, node: Node) -> float:
        """Order nodes by bound, the best first; bounds that differ by rounding alone are equal."""
        return round(-self.bound(node), 9)

    def add_cut(self, placements: list[Placement], weights: list[float]) -> None:
        """Require from now on that a network is slow enough under these splits too."""
        slack = self.branches.slack if self.branches else 0
        if placements:
            log_p_NR = self.log_p_NR[list(self.lut.line_layers)]
            self.cuts.append(
                cut_bounds(log_p_NR, self.lut.line, placements, weights, self.high_s, self.slow_K, slack)
            )

    def children(self, node: Node) -> Iterator[Node]:
        """Choose the next layer, every way."""
        n = len(node.chosen)
        place = self.order[n]
        reached_s = node.reached_s
        if n < self.line_N:
            yield from line_children(node, self.lut.line, self.log_p_NR[place])
            return
        if n == self.line_N:
            try:
                reached_s = np.array([self.lut.line.best(node.chosen)[0]])
            except TargetError:
                return
        for i in np.flatnonzero(self.lut.mask_NR[place]).tolist():
            yield Node((*node.chosen, i), node.score + float(self.log_p_NR[place, i]), reached_s)


def line_children(node: Node, line: ChainLUT, log_p_R: NDArray[np.float64]) -> Iterator[Node]:
    """Choose the next layer of the line, every way."""
    n = len(node.chosen)
    arrived_S = (node.reached_s[:, None] + line.moves_LMM[n, : len(node.reached_s)]).min(axis=0)
    ran_RS = line.U_NRS[n]
    for i in np.flatnonzero(line.mask_NR[n]).tolist():
        yield Node((*node.chosen, i), node.score + float(log_p_R[i]), arrived_S + ran_RS[i])


def begin(p_NR: NDArray[np.float64], lut: LatencyLUT, low_s: float, high_s: float) -> Judge:
    """Fill the bounds; the first cut is the mixture of splits that binds the relaxed network."""
    log_p_NR = np.log(np.where(lut.mask_NR, np.maximum(p_NR, 1e-30), 1.0))
    line_NR = log_p_NR[list(lut.line_layers)]
    order = (*lut.line_layers, *itertools.chain(*lut.branch_layers))
    branches, behind_K, slow_K, points_2P, slack = None, None, None, None, 0
    if isinstance(lut, MeshLUT):
        branches = mesh_bounds(log_p_NR, lut, high_s)
        (behind_K, slow_K), slack = branches.behind_2G(), branches.slack
        # The scores worth having: better than those of all longer times.
        cells = np.flatnonzero(slow_K > np.append(slow_K[1:], -np.inf))
        points_2P = np.stack([slow_K[cells], cells * branches.cell_s])[:, :: max(1, len(cells) // 60)]
    splits = split_bounds(line_NR, lut.line, high_s, behind_K, slack)
    search = Judge(lut, order, log_p_NR, low_s, high_s, low_s, splits, branches, slow_K)
    search.add_cut(*binding_splits(line_NR, lut.line, low_s, points_2P))
    return search


def in_space_order(order: tuple[int, ...], chosen: tuple[int, ...]) -> tuple[int, ...]:
    """Put candidates, in the order they were chosen, in the order of the space's layers."""
    return tuple(i for _, i in sorted(zip(order, chosen, strict=True)))
