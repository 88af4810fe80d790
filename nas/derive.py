"""The network that is derived: the best-scored operations whose OWN least T lies in the band, exactly.

Score = sum over layers of log p. T of a choice of operations is its T under the best split the policy
allows, so that a deliberately bad split can never fill the band.

Method: best-first search over layers with bounds that never under-estimate (bounds.py). A network in the
band has, under its best split, a remaining time in a known window (SplitBounds), and is slow enough under
every split; splits by which a network proved too fast are added as constraints as they are met (CutBounds).
The first complete network taken from the queue is the optimum.
"""

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.nas.bounds import CutBounds, SplitBounds, binding_splits, cut_bounds, split_bounds
from jmsnas.nas.latency_lut import LatencyLUT
from jmsnas.nas.placement import Placement
from jmsnas.nas.split import best_split

# About 20 s of search. Where it ends before the queue does, what is found is not called optimal.
_MOST_NODES = 100_000


@dataclass(frozen=True, slots=True)
class Derived:
    """Operations (a column of `space.choices` each layer), their best split, T in seconds, sum of log p.

    `optimal`: no network in the band scores higher; False when the search was cut off at its limit.
    """

    indices: tuple[int, ...]
    placement: Placement
    latency_s: float
    score: float
    optimal: bool


@dataclass(frozen=True, slots=True)
class _Node:
    """Layers chosen so far; `reached_s[m]`: least seconds until the last of them has run on device m."""

    chosen: tuple[int, ...]
    score: float
    reached_s: NDArray[np.float64]


@dataclass(slots=True)
class _Search:
    """What a node is judged by; `cuts` grows as splits are met that make a network too fast."""

    lut: LatencyLUT
    log_p_NR: NDArray[np.float64]
    low_s: float
    high_s: float
    splits: SplitBounds
    cuts: list[CutBounds]

    def bound(self, node: _Node) -> float:
        """Score no network in the band that begins as `node` exceeds; minus infinity if there is none."""
        n = len(node.chosen)
        best = self.splits.best(n, node.reached_s, self.low_s, self.high_s)
        for cut in self.cuts:
            best = min(best, cut.best(node.chosen, self.low_s))
        return node.score + best

    def key(self, node: _Node) -> float:
        """Order nodes by bound, the best first; bounds that differ by rounding alone are equal."""
        return round(-self.bound(node), 9)

    def add_cut(self, placements: list[Placement], weights: list[float]) -> None:
        """Require from now on that a network is slow enough under these splits too."""
        if placements:
            self.cuts.append(cut_bounds(self.log_p_NR, self.lut, placements, weights, self.high_s))


def _children(node: _Node, lut: LatencyLUT, log_p_NR: NDArray[np.float64]) -> Iterator[_Node]:
    """Choose the next layer, every way."""
    n = len(node.chosen)
    arrived_M = (node.reached_s[:, None] + lut.moves_LMM[n, : len(node.reached_s)]).min(axis=0)
    for i in np.flatnonzero(lut.mask_NR[n]).tolist():
        yield _Node((*node.chosen, i), node.score + float(log_p_NR[n, i]), arrived_M + lut.U_NRM[n, i])


def derive(
    p_NR: NDArray[np.float64], lut: LatencyLUT, low_s: float, high_s: float, most_nodes: int = _MOST_NODES
) -> Derived | None:
    """Find the network of highest sum of log p whose least T lies in [low_s, high_s].

    Parameters
    ----------
    p_NR
        Probabilities of the candidates.
    lut
        Latencies, and the moves the policy allows.
    low_s, high_s
        The band, seconds.
    most_nodes
        After so many nodes the search stops proving and dives for any network in the band.

    Returns
    -------
    None when there is none (or none was found within twice `most_nodes`).
    """
    return next(best_networks(p_NR, lut, low_s, high_s, most_nodes), None)


def best_networks(
    p_NR: NDArray[np.float64], lut: LatencyLUT, low_s: float, high_s: float, most_nodes: int = _MOST_NODES
) -> Iterator[Derived]:
    """Give the networks whose least T lies in [low_s, high_s], best score first. See `derive`."""
    log_p_NR = np.log(np.where(lut.mask_NR, np.maximum(p_NR, 1e-30), 1.0))
    search = _Search(lut, log_p_NR, low_s, high_s, split_bounds(log_p_NR, lut, high_s), [])
    search.add_cut(*binding_splits(log_p_NR, lut, low_s))
    # (-bound, tie-break, how many cuts the bound knows, node); of equal bounds the newest goes first, so
    # that equally likely networks are not all begun before one is finished.
    root, counter, N = _Node((), 0.0, np.zeros(1)), itertools.count(0, -1), len(log_p_NR)
    queue = [(search.key(root), next(counter), 0, root)]
    for _ in range(most_nodes):
        if not queue or queue[0][0] == math.inf:
            return
        bound, _, known, node = heapq.heappop(queue)
        if known < len(search.cuts) and search.key(node) > bound:
            heapq.heappush(queue, (search.key(node), next(counter), len(search.cuts), node))
        elif len(node.chosen) < N:
            for child in _children(node, lut, log_p_NR):
                entry = (search.key(child), next(counter), len(search.cuts), child)
                if entry[0] < math.inf:
                    heapq.heappush(queue, entry)
        elif found := _in_band(search, node, optimal=True):
            yield found
    yield from _dive(search, [entry[3] for entry in sorted(queue, key=lambda entry: -entry[0])], most_nodes)


def _in_band(search: _Search, node: _Node, optimal: bool) -> Derived | None:
    latency_s, placement = best_split(search.lut.tau_NM(node.chosen), search.lut.moves_LMM)
    if search.low_s <= latency_s <= search.high_s:
        return Derived(node.chosen, placement, latency_s, node.score, optimal)
    if latency_s < search.low_s:
        search.add_cut([placement], [1.0])
    return None


def _dive(search: _Search, stack: list[_Node], most_nodes: int) -> Iterator[Derived]:
    """Look depth first, best bound first, for networks in the band: not proven optimal."""
    for _ in range(most_nodes):
        if not stack:
            return
        node = stack.pop()
        if len(node.chosen) == len(search.log_p_NR):
            if found := _in_band(search, node, optimal=False):
                yield found
        elif search.bound(node) > -math.inf:
            stack.extend(sorted(_children(node, search.lut, search.log_p_NR), key=search.bound))


def argmax_network(p_NR: NDArray[np.float64], lut: LatencyLUT) -> Derived:
    """Take the likeliest candidate of each layer (the paper's derivation), under its best split."""
    indices = tuple(int(i) for i in np.where(lut.mask_NR, p_NR, -1.0).argmax(axis=1))
    latency_s, placement = best_split(lut.tau_NM(indices), lut.moves_LMM)
    score = float(np.log(np.maximum(p_NR[np.arange(len(indices)), list(indices)], 1e-30)).sum())
    return Derived(indices, placement, latency_s, score, True)


def feasible_range_s(lut: LatencyLUT, most_nodes: int = 20_000) -> tuple[float, float]:
    """Find the least T over operations and splits, and the greatest over operations of the least over splits.

    The least is exact. The greatest is a branch and bound that stops within 0.1 % of the truth; where its
    node limit ends it first, it is the greatest T met.
    """
    fastest_NM = np.where(lut.mask_NR[:, :, None], lut.U_NRM, np.inf).min(axis=1)
    slowest_NM = np.where(lut.mask_NR[:, :, None], lut.U_NRM, -np.inf).max(axis=1)
    least_s = best_split(fastest_NM, lut.moves_LMM)[0]
    togo_LM = _longest_to_go(slowest_NM, lut.moves_LMM)
    counter, best_s = itertools.count(), least_s
    queue = [(-float(togo_LM[0, 0]), next(counter), _Node((), 0.0, np.zeros(1)))]
    for _ in range(most_nodes):
        if not queue or -queue[0][0] <= best_s * 1.001:
            break
        node = heapq.heappop(queue)[2]
        for child in _children(node, lut, np.zeros(lut.mask_NR.shape)):
            bound_s = float((child.reached_s + togo_LM[len(child.chosen)]).min())
            if len(child.chosen) == len(slowest_NM):
                best_s = max(best_s, bound_s)
            elif bound_s > best_s:
                heapq.heappush(queue, (-bound_s, next(counter), child))
    return least_s, best_s


def _longest_to_go(slowest_NM: NDArray[np.float64], moves_LMM: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least seconds over splits from device m after n layers, all that follow at their slowest; (L, M)."""
    togo_LM = np.empty((len(moves_LMM), moves_LMM.shape[1]))
    togo_LM[-1] = moves_LMM[-1].min(axis=1)
    for n in range(len(slowest_NM) - 1, -1, -1):
        togo_LM[n] = (moves_LMM[n] + (slowest_NM[n] + togo_LM[n + 1])[None, :]).min(axis=1)
    return togo_LM
