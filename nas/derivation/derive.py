"""Exact derivation: the architecture of highest sum of log p whose T under its best split lies in a band.

Method: best-first branch and bound over layers (branch_and_bound.py) with upper bounds on the score
(chain_bounds.py). An architecture in the band has, under its best split, a remaining latency in a known
window (FreeSplitBounds), and is slow enough under every split; the splits of architectures that turn out too
fast are added as constraints (FixedSplitBounds). The first complete architecture taken is the optimum.

On a mesh the layers of the branches, of which the slowest counts (mesh_bounds.py), are chosen after those of
the main path, when the least T of the main path is known. Where memory or energy forbid splits depending on
the operations, the bounds price the limits of the main path (limited_bounds.py); a split that is too fast
bounds those architectures for which it is not forbidden (split_excess.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.errors import InfeasibleError, SearchLimitError
from jmsnas.nas.derivation.branch_and_bound import (
    BranchAndBound,
    SearchNode,
    branch_and_bound,
    in_space_order,
)
from jmsnas.nas.derivation.chain_bounds import GRID_CELLS
from jmsnas.nas.derivation.open_list import OpenList, push_local_optima
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.split.placement import Placement
from jmsnas.units import format_duration

# At this limit the result is not called optimal.
MAX_NODES = 20_000
# Numbers of nodes at which a local search starts from the most promising node.
_LOCAL_SEARCHES = (200, 2000)
# Number of nodes at which the search starts again with cells of time that are this much finer. Under limits
# their prices matter more.
_FINER, _LIMITED_FINER, _FINER_FACTOR = 100, 1000, 4
# Numbers of nodes at which the bounds are refined by the most promising node.
_REFINEMENTS = tuple(2**k for k in range(4, 14))


@dataclass(frozen=True, slots=True)
class DerivedArchitecture:
    """Column of `space.choices` for each layer, the best split, T in seconds, sum of log p.

    `bound`: upper bound on the score of all architectures in the band (of those after it, where several are
    derived); above `score` where the search stopped at its limit.
    """

    indices: tuple[int, ...]
    placement: Placement
    latency_s: float
    score: float
    bound: float

    @property
    def gap(self) -> float:
        """Difference between bound and score, in nats of the sum of log p."""
        return max(self.bound - self.score, 0.0)

    @property
    def optimal(self) -> bool:
        """Whether no architecture in the band is likelier, as proven by the search."""
        return self.gap <= 1e-8


def derive(
    p_NR: FloatArray, lut: LatencyLUT, low_s: float, high_s: float, max_nodes: int = MAX_NODES
) -> DerivedArchitecture | None:
    """Find the architecture of highest sum of log p whose T under its best split is in [low_s, high_s].

    `p_NR`: probabilities of the candidates. The search stops without a proof after `max_nodes`. Returns None
    when no architecture lies in the band; raises SearchLimitError when none was found and there may be one.
    """
    return next(best_architectures(p_NR, lut, low_s, high_s, max_nodes), None)


def best_architectures(
    p_NR: FloatArray, lut: LatencyLUT, low_s: float, high_s: float, max_nodes: int = MAX_NODES
) -> Iterator[DerivedArchitecture]:
    """Generate the architectures whose least T lies in [low_s, high_s], best score first; see `derive`."""
    search = branch_and_bound(p_NR, lut, low_s, high_s)
    open_list, given = OpenList(search), set[tuple[int, ...]]()
    finer_at = _LIMITED_FINER if lut.main_path.limited else _FINER
    for number in range(max_nodes):
        if number == finer_at:
            search = branch_and_bound(p_NR, lut, low_s, high_s, _FINER_FACTOR * GRID_CELLS)
            open_list = OpenList(search)
        node = open_list.pop()
        if node is None:
            return
        if len(node.chosen) < len(search.order):
            if number in _REFINEMENTS:
                search.refine(node)
            if number in _LOCAL_SEARCHES:
                push_local_optima(search, open_list, node)
            open_list.push_all(search.children(node))
        elif found := _in_band(search, node, node.score, given):
            yield found
    push_local_optima(search, open_list, SearchNode((), 0.0, np.zeros(1)))
    bound = open_list.bound
    for node in open_list.complete():
        if found := _in_band(search, node, bound, given):
            yield found
    if not given:
        raise SearchLimitError(
            f"no architecture with T from {format_duration(low_s)} to {format_duration(high_s)} was found in "
            f"{max_nodes} nodes of the search, though one may exist: try another --t-const"
        )


def _in_band(
    search: BranchAndBound, node: SearchNode, bound: float, given: set[tuple[int, ...]]
) -> DerivedArchitecture | None:
    indices = in_space_order(search.order, node.chosen)
    if indices in given:
        return None
    try:
        latency_s, placement = search.lut.best_split(indices)
    except InfeasibleError:
        return None
    if search.low_s <= latency_s <= search.high_s:
        given.add(indices)
        return DerivedArchitecture(indices, placement, latency_s, node.score, bound)
    if latency_s < search.low_s:
        search.add_fast_architecture(indices)
    return None


def argmax_architecture(p_NR: FloatArray, lut: LatencyLUT) -> DerivedArchitecture:
    """Take the likeliest candidate of each layer (the paper's derivation) under the best split."""
    indices = tuple(int(i) for i in np.where(lut.mask_NR, p_NR, -1.0).argmax(axis=1))
    latency_s, placement = lut.best_split(indices)
    score = float(np.log(np.maximum(p_NR[np.arange(len(indices)), list(indices)], 1e-30)).sum())
    return DerivedArchitecture(indices, placement, latency_s, score, score)
