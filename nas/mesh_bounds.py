"""Upper bounds on the score of what can still be chosen in the branches of a mesh, on a grid of time.

B branches, K children, C columns (a child and what reaching and leaving it takes; children that are alike are
one), P ways to give branches their children, G grid cells of `cell_s` seconds (bounds.py: each term's time
is rounded down, windows are widened by what that may lose).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.nas.bounds import CELLS, floor_cells, raise_shifted_or_last
from jmsnas.nas.mesh_lut import MeshLUT
from jmsnas.nas.split_mesh import arrivals_s

# Beyond so many ways a branch's bound is that of its best child, whichever the others take.
_MOST_WAYS = 720
# Stands for minus infinity, and can be added to and taken away again.
_NEVER = -1e18


@dataclass(frozen=True, slots=True)
class Ways:
    """How branches may be given to children: `columns_PB[p, b]` is the column of branch b.

    `children_C` and `beside_C`: the child behind a column, and seconds beside its tau (eps^{r->m} + eps^m).
    `exact`: all ways are listed; `timed`: the seconds of a column are those of every way.
    """

    children_C: tuple[int, ...]
    beside_C: NDArray[np.float64]
    columns_PB: NDArray[np.intp]
    exact: bool
    timed: bool


def ways(lut: MeshLUT) -> Ways:
    """List the ways that differ in time; where there are too many, only each branch's columns."""
    B, K = len(lut.branch_layers), len(lut.children)
    every = (tuple(range(B)),) if lut.line.fixed else itertools.permutations(range(K), B)
    few = bool(lut.line.fixed) or math.perm(K, B) <= _MOST_WAYS
    allowed_BK, known = lut.allowed_BK(), dict[tuple[bytes, float], int]()
    children, beside, found = list[int](), list[float](), dict[tuple[int, ...], None]()

    def column(k: int, used: Sequence[int]) -> int:
        seconds = float(arrivals_s(lut.epsilon_root_K, tuple(used), lut.fan_out)[k] + lut.epsilon_K[k])
        key = (lut.U_NRM[:, :, lut.children[k]].tobytes(), seconds)
        if key not in known:
            known[key] = len(children)
            children.append(k)
            beside.append(seconds)
        return known[key]

    if few:
        for chosen in every:
            if allowed_BK[range(B), list(chosen)].all():
                found[tuple(column(k, chosen) for k in chosen)] = None
    else:
        # Serial copies come at the earliest when no child before is sent to: times are never too long.
        columns = [column(k, (k,)) for k in range(K)]
        found = {(c,) * B: None for c in columns}
    columns_PB = np.array(list(found), dtype=np.intp).reshape(-1, B)
    timed = few or lut.fan_out == "broadcast"
    return Ways(tuple(children), np.array(beside), columns_PB, few, timed)


@dataclass(frozen=True, slots=True)
class BranchTable:
    """One branch: `exact_CLG[c, n, k]`, the best score of its layers n.. that take k cells on column c.

    `most_CLG` at most, `least_CLG` at least so many; `free_L` the best of all.
    """

    U_LRC: NDArray[np.float64]
    exact_CLG: NDArray[np.float64]
    most_CLG: NDArray[np.float64]
    least_CLG: NDArray[np.float64]
    free_L: NDArray[np.float64]


def _branch_table(
    log_p_LR: NDArray[np.float64], mask_LR: NDArray[np.bool_], U_LRC: NDArray[np.float64], cell_s: float
) -> BranchTable:
    length, _, C = U_LRC.shape
    exact_CLG = np.full((C, length + 1, CELLS), _NEVER)
    exact_CLG[:, length, 0] = 0.0
    for c in range(C):
        for n in range(length - 1, -1, -1):
            for i in np.flatnonzero(mask_LR[n]):
                cells = floor_cells(U_LRC[n, i, c], cell_s)
                raise_shifted_or_last(exact_CLG[c, n], exact_CLG[c, n + 1] + log_p_LR[n, i], cells)
    most_CLG = np.maximum.accumulate(exact_CLG, axis=2)
    least_CLG = np.maximum.accumulate(exact_CLG[:, :, ::-1], axis=2)[:, :, ::-1]
    return BranchTable(U_LRC, exact_CLG, most_CLG, least_CLG, most_CLG[0, :, -1])


@dataclass(frozen=True, slots=True)
class MeshBounds:
    """Best score of all branches, of which some layers are chosen, when the slowest ends in a window."""

    tables: tuple[BranchTable, ...]
    ways: Ways
    cell_s: float

    @property
    def slack(self) -> int:
        """Cells that the slowest branch may lose to rounding."""
        return 2 + max(len(table.U_LRC) for table in self.tables)

    def behind_2G(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Best scores, nothing chosen yet, by the cells that the slowest branch takes; (G,) each.

        The first when it takes exactly k cells under some way, the second when it takes at least k cells
        under every way.
        """
        B, C = len(self.tables), len(self.ways.beside_C)
        exact_BCG = np.full((B, C, CELLS), _NEVER)
        for b, table in enumerate(self.tables):
            for c, seconds in enumerate(self.ways.beside_C):
                cells = floor_cells(seconds, self.cell_s)
                raise_shifted_or_last(exact_BCG[b, c], table.exact_CLG[c, 0], cells)
        most_BCG = np.maximum.accumulate(exact_BCG, axis=2)
        least_BCG = np.maximum.accumulate(exact_BCG[:, :, ::-1], axis=2)[:, :, ::-1]
        free_B1 = np.array([[table.free_L[0]] for table in self.tables])
        if not self.ways.timed:
            exact_BCG, least_BCG = most_BCG, np.repeat(free_B1[:, None], C, axis=1) + np.zeros(CELLS)
        ends_G, slow_G = np.full(CELLS, _NEVER), np.full(CELLS, np.inf)
        for exact_BG, most_BG, least_BG in self._each_way(exact_BCG, most_BCG, least_BCG):
            np.maximum(ends_G, (most_BG.sum(0) + (exact_BG - most_BG)).max(0), out=ends_G)
            np.minimum(slow_G, free_B1.sum() + (least_BG - free_B1).max(0), out=slow_G)
        never = _NEVER / 2
        return np.where(ends_G < never, -np.inf, ends_G), np.where(slow_G < never, -np.inf, slow_G)

    def _each_way(self, *arrays: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], ...]]:
        """Take, of arrays (B, C, ...), the columns of each way; of too many ways each branch's best."""
        if not self.ways.exact:
            return [tuple(array.max(axis=1) for array in arrays)]
        rows = np.arange(len(self.tables))
        return [tuple(array[rows, columns] for array in arrays) for columns in self.ways.columns_PB]

    def best(self, chosen: Sequence[int], low_s: float, high_s: float) -> float:
        """Bound the score of the layers that remain when the slowest branch must end in [low_s, high_s].

        `chosen`: candidates of the first layers, branch after branch. The window holds under the best way:
        at most `high_s` under one way, at least `low_s` under all of them.
        """
        B, C, slack = len(self.tables), len(self.ways.beside_C), self.slack
        within_BC, most_BC, least_BC = (np.full((B, C), _NEVER) for _ in range(3))
        free_B, at = np.empty(B), 0
        low_s = low_s if self.ways.timed else -math.inf
        for b, table in enumerate(self.tables):
            own = list(chosen[at : at + len(table.U_LRC)])
            n, at = len(own), at + len(own)
            done_C = self.ways.beside_C + table.U_LRC[np.arange(n), own].sum(axis=0)
            free_B[b] = table.free_L[n]
            for c, done_s in enumerate(done_C.tolist()):
                missing_s = max(low_s - done_s, 0.0)
                first = max(0, floor_cells(missing_s, self.cell_s) - slack)
                least_BC[b, c] = table.least_CLG[c, n, min(first, CELLS - 1)]
                if done_s <= high_s * (1 + 1e-12):
                    last = math.floor((high_s - done_s) / self.cell_s * (1 + 1e-12)) + 1
                    most_BC[b, c] = table.most_CLG[c, n, min(max(last, 0), CELLS - 1)]
                    window = table.exact_CLG[c, n, first : last + 1]
                    within_BC[b, c] = window.max(initial=_NEVER)
        return self._bound(within_BC, most_BC, least_BC, free_B)

    def _bound(
        self,
        within_BC: NDArray[np.float64],
        most_BC: NDArray[np.float64],
        least_BC: NDArray[np.float64],
        free_B: NDArray[np.float64],
    ) -> float:
        if self.ways.exact:
            columns_PB, rows = self.ways.columns_PB, np.arange(len(free_B))
            within_PB, most_PB = within_BC[rows, columns_PB], most_BC[rows, columns_PB]
            least_PB = least_BC[rows, columns_PB]
        else:
            within_PB, most_PB = within_BC.max(axis=1)[None], most_BC.max(axis=1)[None]
            least_PB = least_BC.max(axis=1)[None]
        ends_in = (most_PB.sum(axis=1) + (within_PB - most_PB).max(axis=1)).max(initial=_NEVER)
        slow_enough = (free_B.sum() + (least_PB - free_B).max(axis=1)).min(initial=np.inf)
        best = float(min(ends_in, slow_enough))
        return -math.inf if best < _NEVER / 2 else best


def mesh_bounds(log_p_NR: NDArray[np.float64], lut: MeshLUT, high_s: float) -> MeshBounds:
    """Fill the bounds of every branch on every column."""
    cell_s, found = high_s / (CELLS - 1), ways(lut)
    columns = [lut.children[k] for k in found.children_C]
    tables = tuple(
        _branch_table(
            log_p_NR[list(own)], lut.mask_NR[list(own)], lut.U_NRM[list(own)][:, :, columns], cell_s
        )
        for own in lut.branch_layers
    )
    return MeshBounds(tables, found, cell_s)
