"""The network that is derived: the best-scored operations whose OWN least T lies in the band, exactly.

Score = sum over layers of log p. T of a choice of operations is its T under the best split the policy
allows, so that a deliberately bad split can never fill the band.

Method: best-first search over layers with bounds that never under-estimate (bounds.py). A network in the
band has, under its best split, a remaining time in a known window (SplitBounds), and is slow enough under
every split; splits by which a network proved too fast are added as constraints as they are met (CutBounds).
The first complete network taken from the queue is the optimum.

A mesh is its line, a chain, and behind it the branches, of which the slowest counts (mesh_bounds.py): their
layers are chosen last, when the line's own least time is known. Where memory or energy forbid splits by the
operations, the bounds still find networks in the band, but prove nothing: `optimal` is then False.
"""

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import TargetError
from jmsnas.nas.judge import Judge, Node, begin, in_space_order
from jmsnas.nas.latency_lut import LatencyLUT
from jmsnas.nas.placement import Placement

# About 20 s of search. Where it ends before the queue does, what is found is not called optimal.
_MOST_NODES = 100_000


@dataclass(frozen=True, slots=True)
class Derived:
    """Operations (a column of `space.choices` each layer), their best split, T in seconds, sum of log p.

    `optimal`: no network in the band scores higher; False when the search was cut off at its limit, or where
    memory or energy limits bind.
    """

    indices: tuple[int, ...]
    placement: Placement
    latency_s: float
    score: float
    optimal: bool


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
    """Give the networks whose least T lies in [low_s, high_s], best score first. See `derive`.

    Where limits bind, a network may be slower than the bounds know, since they forbid its fastest split: when
    none is found, those are looked through too that would be too fast without limits.
    """
    search = begin(p_NR, lut, low_s, high_s)
    found = None
    for found in _best_first(search, most_nodes):
        yield found
    if lut.limited and found is None:
        yield from _best_first(replace(search, bound_low_s=0.0, cuts=[]), most_nodes)


def _best_first(search: Judge, most_nodes: int) -> Iterator[Derived]:
    # (-bound, tie-break, how many cuts the bound knows, node); of equal bounds the newest goes first, so
    # that equally likely networks are not all begun before one is finished.
    root, counter, N = Node((), 0.0, np.zeros(1)), itertools.count(0, -1), len(search.order)
    queue = [(search.key(root), next(counter), 0, root)]
    for _ in range(most_nodes):
        if not queue or queue[0][0] == math.inf:
            return
        bound, _, known, node = heapq.heappop(queue)
        if known < len(search.cuts) and search.key(node) > bound:
            heapq.heappush(queue, (search.key(node), next(counter), len(search.cuts), node))
        elif len(node.chosen) < N:
            for child in search.children(node):
                entry = (search.key(child), next(counter), len(search.cuts), child)
                if entry[0] < math.inf:
                    heapq.heappush(queue, entry)
        elif found := _in_band(search, node, optimal=not search.lut.limited):
            yield found
    yield from _dive(search, [entry[3] for entry in sorted(queue, key=lambda entry: -entry[0])], most_nodes)


def _in_band(search: Judge, node: Node, optimal: bool) -> Derived | None:
    indices = in_space_order(search.order, node.chosen)
    try:
        latency_s, placement = search.lut.best(indices)
    except TargetError:
        return None
    if search.low_s <= latency_s <= search.high_s:
        return Derived(indices, placement, latency_s, node.score, optimal)
    if latency_s < search.bound_low_s:
        line = search.lut.line
        _, path = line.best_path(line.tau_NM(node.chosen[: search.line_N]))
        if path.cuts not in search.known:
            search.known.add(path.cuts)
            search.add_cut([path], [1.0])
    return None


def _dive(search: Judge, stack: list[Node], most_nodes: int) -> Iterator[Derived]:
    """Look depth first, best bound first, for networks in the band: not proven optimal."""
    for _ in range(most_nodes):
        if not stack:
            return
        node = stack.pop()
        if len(node.chosen) == len(search.order):
            if found := _in_band(search, node, optimal=False):
                yield found
        elif search.bound(node) > -math.inf:
            stack.extend(sorted(search.children(node), key=search.bound))


def argmax_network(p_NR: NDArray[np.float64], lut: LatencyLUT) -> Derived:
    """Take the likeliest candidate of each layer (the paper's derivation), under its best split."""
    indices = tuple(int(i) for i in np.where(lut.mask_NR, p_NR, -1.0).argmax(axis=1))
    latency_s, placement = lut.best(indices)
    score = float(np.log(np.maximum(p_NR[np.arange(len(indices)), list(indices)], 1e-30)).sum())
    return Derived(indices, placement, latency_s, score, True)
