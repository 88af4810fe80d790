"""The network that is derived: the best-scored operations whose OWN least T lies in the band, exactly.

Score = sum over layers of log p. T of a choice of operations is its T under the best split the policy
allows, so that a deliberately bad split can never fill the band.

Method: best-first search over layers with bounds that never under-estimate (chain_bounds.py).
A network in the
band has, under its best split, a remaining time in a known window (SplitBounds), and is slow enough under
every split; splits by which a network proved too fast are added as constraints as they are met (CutBounds).
The first complete network taken from the queue is the optimum.

A mesh is its line, a chain, and behind it the branches, of which the slowest counts (mesh_bounds.py): their
layers are chosen last, when the line's own least time is known. Where memory or energy forbid splits by the
operations, the bounds still find networks in the band, but prove nothing: `optimal` is then False.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import InfeasibleError, SearchLimitError
from jmsnas.nas.derivation.branch_and_bound import (
    BranchAndBound,
    SearchNode,
    branch_and_bound,
    in_space_order,
)
from jmsnas.nas.derivation.open_list import OpenList, push_local_optima
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.split.placement import Placement
from jmsnas.units import format_duration

# Where it ends before the queue does, what is found is not called optimal.
MAX_NODES = 20_000
# Nodes after which networks in the band are looked for near the most promising one.
_LOOKS = (50, 500, 5000)


@dataclass(frozen=True, slots=True)
class DerivedArchitecture:
    """Operations (a column of `space.choices` each layer), their best split, T in seconds, sum of log p.

    `bound`: no network in the band has a higher score (of several that were asked for, none but those before
    it); above `score` where the search was cut off at its limit.
    """

    indices: tuple[int, ...]
    placement: Placement
    latency_s: float
    score: float
    bound: float

    @property
    def gap(self) -> float:
        """How much likelier, in nats of the sum of log p, another network in the band may still be."""
        return max(self.bound - self.score, 0.0)

    @property
    def optimal(self) -> bool:
        """Whether it is proven that no network in the band is likelier."""
        return self.gap <= 1e-8


def derive(
    p_NR: NDArray[np.float64], lut: LatencyLUT, low_s: float, high_s: float, max_nodes: int = MAX_NODES
) -> DerivedArchitecture | None:
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
        After so many nodes the proof is given up.

    Returns
    -------
    None when there is none.

    Raises
    ------
    UndecidedError
        When none was found within `most_nodes`, and there may be one.
    """
    return next(best_architectures(p_NR, lut, low_s, high_s, max_nodes), None)


def best_architectures(
    p_NR: NDArray[np.float64], lut: LatencyLUT, low_s: float, high_s: float, max_nodes: int = MAX_NODES
) -> Iterator[DerivedArchitecture]:
    """Give the networks whose least T lies in [low_s, high_s], best score first. See `derive`."""
    search = branch_and_bound(p_NR, lut, low_s, high_s)
    queue, given = OpenList(search), set[tuple[int, ...]]()
    for number in range(max_nodes):
        node = queue.pop()
        if node is None:
            return
        if len(node.chosen) < len(search.order):
            if number in _LOOKS:
                push_local_optima(search, queue, node)
            queue.push_all(search.children(node))
        elif found := _in_band(search, node, node.score, given):
            yield found
    push_local_optima(search, queue, SearchNode((), 0.0, np.zeros(1)))
    bound = queue.bound
    for node in queue.complete():
        if found := _in_band(search, node, bound, given):
            yield found
    if not given:
        raise SearchLimitError(
            f"no network with T from {format_duration(low_s)} to {format_duration(high_s)} was found among "
            f"{max_nodes} beginnings, but there may be one: try another --t-const"
        )


def _in_band(
    search: BranchAndBound, node: SearchNode, bound: float, given: set[tuple[int, ...]]
) -> DerivedArchitecture | None:
    indices = in_space_order(search.order, node.chosen)
    if indices in given:
        return None
    try:
        latency_s, placement = search.lut.best(indices)
    except InfeasibleError:
        return None
    if search.low_s <= latency_s <= search.high_s:
        given.add(indices)
        return DerivedArchitecture(indices, placement, latency_s, node.score, bound)
    if latency_s < search.low_s:
        search.too_fast(indices)
    return None


def argmax_architecture(p_NR: NDArray[np.float64], lut: LatencyLUT) -> DerivedArchitecture:
    """Take the likeliest candidate of each layer (the paper's derivation), under its best split."""
    indices = tuple(int(i) for i in np.where(lut.mask_NR, p_NR, -1.0).argmax(axis=1))
    latency_s, placement = lut.best(indices)
    score = float(np.log(np.maximum(p_NR[np.arange(len(indices)), list(indices)], 1e-30)).sum())
    return DerivedArchitecture(indices, placement, latency_s, score, score)
