"""Open list of the best-first search of derive.py: nodes by bound, and local search from one of them."""

import heapq
import itertools
import math

import numpy as np

from jmsnas.nas.derivation.branch_and_bound import BranchAndBound, SearchNode, SiblingNodes
from jmsnas.nas.derivation.local_search import local_search


class OpenList:
    """Nodes by bound, the best first; of equal bounds complete ones, then the newest.

    So equally likely architectures are not all started before one is complete. Of siblings only the best is
    in the heap: most of the others are never needed.
    """

    def __init__(self, search: BranchAndBound) -> None:
        self.search, self._counter = search, itertools.count(0, -1)
        # (-bound, whether layers remain, tie-break, fixed splits in the bound, nodes, index of the node)
        self._heap: list[tuple[float, bool, int, int, SiblingNodes | SearchNode, int]] = []
        self.push(SearchNode((), 0.0, np.zeros(1)), math.inf)

    def push(self, node: SearchNode, bound: float) -> None:
        """Add a node with its bound."""
        self._push(round(-bound, 9), len(node.chosen), node)

    def push_all(self, siblings: SiblingNodes) -> None:
        """Add the children of a node."""
        if siblings.keys:
            self._push(siblings.keys[0], len(siblings.chosen) + 1, siblings)

    def _push(self, key: float, chosen: int, nodes: SiblingNodes | SearchNode) -> None:
        remain = chosen < len(self.search.order)
        heapq.heappush(self._heap, (key, remain, next(self._counter), self.search.split_count, nodes, 0))

    def pop(self) -> SearchNode | None:
        """Remove and return the best node; None where the list is empty."""
        while self._heap:
            key, remain, tie, known, nodes, k = self._heap[0]
            if isinstance(nodes, SiblingNodes) and k + 1 < len(nodes.keys):
                heapq.heapreplace(self._heap, (nodes.keys[k + 1], remain, tie, known, nodes, k + 1))
            else:
                heapq.heappop(self._heap)
            node = nodes.node(k) if isinstance(nodes, SiblingNodes) else nodes
            if known < self.search.split_count:
                bound = self.search.updated_bound(node)
                if round(-bound, 9) > key:
                    if bound > -math.inf:
                        self.push(node, bound)
                    continue
            return node
        return None

    @property
    def bound(self) -> float:
        """Upper bound on the score of every node in the list."""
        return -self._heap[0][0] if self._heap else -math.inf

    def complete(self) -> list[SearchNode]:
        """List the complete architectures, the likeliest first."""
        found: list[SearchNode] = []
        for _, remain, _, _, nodes, k in sorted(self._heap):
            if not remain:
                found += (
                    map(nodes.node, range(k, len(nodes.keys))) if isinstance(nodes, SiblingNodes) else [nodes]
                )
        return sorted(found, key=lambda node: -node.score)


def push_local_optima(search: BranchAndBound, open_list: OpenList, node: SearchNode) -> None:
    """Add architectures in the band near a node's best completion, else near the slowest or the fastest."""
    while len(node.chosen) < len(search.order):
        children = search.children(node)
        if not children.keys:
            break
        node = children.node(0)
    mask_NR, chosen_n = search.lut.mask_NR, dict(zip(search.order, node.chosen, strict=False))
    likeliest_N = np.where(mask_NR, search.log_p_NR, -np.inf).argmax(axis=1)
    mean_NR = search.lut.U_NRM.mean(axis=2)
    starts = [
        [chosen_n.get(n, int(i)) for n, i in enumerate(likeliest_N)],
        np.where(mask_NR, mean_NR, -np.inf).argmax(axis=1).tolist(),
        np.where(mask_NR, mean_NR, np.inf).argmin(axis=1).tolist(),
    ]
    for start in starts:
        found = list(local_search(search.lut, search.log_p_NR, tuple(start), search.low_s, search.high_s))
        for indices in found:
            score = float(search.log_p_NR[np.arange(len(indices)), list(indices)].sum())
            chosen = tuple(indices[n] for n in search.order)
            open_list.push(SearchNode(chosen, score, np.zeros(1)), score)
        if found:
            return
