"""Upper bounds on the score of the layers that remain in the branches of a mesh, on a grid of time.

B branches, K children, C columns (a child and the time to reach and leave it; identical children are one
column), P assignments of branches to children, G grid cells of `cell_s` seconds (see chain_bounds.py for the
rounding of times).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray, IntArray
from jmsnas.nas.derivation.chain_bounds import (
    GRID_CELLS,
    BranchScores,
    floor_cells,
    maximum_shifted_clipped,
    sliding_maximum,
)
from jmsnas.nas.derivation.hall_bound import children_subsets, hall_bound
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.split.solve_mesh import arrivals_s

# Above this many assignments a branch is bounded by its best child, whichever children the others take.
_MAX_ASSIGNMENTS = 720
# Minus infinity that can be added and subtracted.
_NEVER = -1e18


@dataclass(frozen=True, slots=True)
class Assignments:
    """Assignments of branches to children: `columns_PB[p, b]` is the column of branch b.

    `children_C` and `beside_C`: child of a column, and seconds in addition to its tau (eps^{r->m}, its call,
    eps^m).
    `exact`: all assignments are listed; `timed`: the seconds of a column hold in every assignment.
    `columns_K`: column of each child, empty where it depends on the other children used; `allowed_BK` as of
    the mesh.
    """

    children_C: tuple[int, ...]
    beside_C: FloatArray
    columns_PB: IntArray
    exact: bool
    timed: bool
    columns_K: tuple[int, ...]
    allowed_BK: BoolArray


def list_assignments(lut: MeshLUT) -> Assignments:
    """List the assignments that differ in time; where there are too many, the columns of each branch.

    With serial fan-out an assignment is one of children and of an order of sending.
    """
    B, K, broadcast = len(lut.branch_layers), len(lut.children), lut.fan_out == "broadcast"
    ways = [tuple(range(B))] if lut.main_path.fixed else itertools.permutations(range(K), B)
    orders = math.factorial(1 if broadcast else B)
    few = (1 if lut.main_path.fixed else math.perm(K, B)) * orders <= _MAX_ASSIGNMENTS
    required = set(np.flatnonzero(lut.required_K).tolist())
    allowed_BK, known = lut.allowed_BK(), dict[tuple[bytes, float], int]()
    children, beside, found = list[int](), list[float](), dict[tuple[int, ...], None]()

    def column(k: int, arrived_s: float) -> int:
        seconds = arrived_s + float(lut.beside_K[k])
        key = (lut.U_NRM[:, :, lut.children[k]].tobytes(), seconds)
        if key not in known:
            known[key] = len(children)
            children.append(k)
            beside.append(seconds)
        return known[key]

    if few:
        for chosen in ways:
            if not allowed_BK[range(B), list(chosen)].all() or not required <= set(chosen):
                continue
            for order in itertools.islice(itertools.permutations(range(B)), orders):
                arrived_B = arrivals_s(lut.epsilon_root_K, chosen, order, lut.fan_out).tolist()
                found[tuple(map(column, chosen, arrived_B))] = None
    else:
        # A serial copy is earliest when no other child is sent to before: times are never too long.
        found = {(column(k, float(lut.epsilon_root_K[k])),) * B: None for k in range(K)}
    columns_K: tuple[int, ...] = ()
    if broadcast and not lut.main_path.fixed and (B == K or not required):
        columns_K = tuple(column(k, float(lut.epsilon_root_K[k])) for k in range(K))
    columns_PB = np.array(list(found), dtype=np.intp).reshape(-1, B)
    timed = few or broadcast
    return Assignments(tuple(children), np.array(beside), columns_PB, few, timed, columns_K, allowed_BK)


@dataclass(frozen=True, slots=True)
class BranchTable:
    """Best scores of one branch: `exact_CLG[c, n, k]` for its layers n.. that take k cells on column c.

    `within_CLG`: k cells or more, by at most the width of the band and the rounding; `most_CLG`: at most k;
    `least_CLG`: at least k; `free_L`: any time.
    """

    U_LRC: FloatArray
    exact_CLG: FloatArray
    within_CLG: FloatArray
    most_CLG: FloatArray
    least_CLG: FloatArray
    free_L: FloatArray


def _branch_table(
    log_p_LR: FloatArray, mask_LR: BoolArray, U_LRC: FloatArray, cell_s: float, width: int, grid_cells: int
) -> BranchTable:
    length, _, C = U_LRC.shape
    exact_CLG = np.full((C, length + 1, grid_cells), _NEVER)
    exact_CLG[:, length, 0] = 0.0
    for c in range(C):
        for n in range(length - 1, -1, -1):
            for i in np.flatnonzero(mask_LR[n]):
                cells = floor_cells(U_LRC[n, i, c], cell_s)
                maximum_shifted_clipped(exact_CLG[c, n], exact_CLG[c, n + 1] + log_p_LR[n, i], cells)
    most_CLG = np.maximum.accumulate(exact_CLG, axis=2)
    least_CLG = np.maximum.accumulate(exact_CLG[:, :, ::-1], axis=2)[:, :, ::-1]
    within_CLG = exact_CLG.copy()
    sliding_maximum(within_CLG.reshape(-1, grid_cells), width)
    return BranchTable(U_LRC, exact_CLG, within_CLG, most_CLG, least_CLG, most_CLG[0, :, -1])


@dataclass(frozen=True, slots=True)
class MeshBounds:
    """Bounds on the score of all branches when the slowest of them ends in a window of time.

    `limited`: memory or energy may forbid an assignment, so that an architecture need not be slow enough
    under it. `left_XK`: see hall_bound.py; None where single assignments are bounded.
    """

    tables: tuple[BranchTable, ...]
    assignments: Assignments
    grid_cells: int
    cell_s: float
    limited: bool
    left_XK: BoolArray | None

    @property
    def slack(self) -> int:
        """Cells that rounding may lose in the slowest branch."""
        return 2 + max(len(table.U_LRC) for table in self.tables)

    def branch_scores(self) -> BranchScores:
        """Compute the best scores before any choice by the cells of the slowest branch."""
        B, C = len(self.tables), len(self.assignments.beside_C)
        exact_BCG = np.full((B, C, self.grid_cells), _NEVER)
        for b, table in enumerate(self.tables):
            for c, seconds in enumerate(self.assignments.beside_C):
                cells = floor_cells(seconds, self.cell_s)
                maximum_shifted_clipped(exact_BCG[b, c], table.exact_CLG[c, 0], cells)
        most_BCG = np.maximum.accumulate(exact_BCG, axis=2)
        least_BCG = np.maximum.accumulate(exact_BCG[:, :, ::-1], axis=2)[:, :, ::-1]
        free_B = np.array([table.free_L[0] for table in self.tables])
        if not self.assignments.timed:
            exact_BCG, least_BCG = most_BCG, np.broadcast_to(free_B[:, None, None], most_BCG.shape)
        ends_G, slow_G = (
            np.full(self.grid_cells, _NEVER),
            self._slow_enough(np.moveaxis(least_BCG, 2, 0), free_B),
        )
        columns_PB = self.assignments.columns_PB
        if not self.assignments.exact:  # each branch's best column
            exact_BCG, most_BCG = exact_BCG.max(axis=1, keepdims=True), most_BCG.max(axis=1, keepdims=True)
            columns_PB = np.zeros((1, B), dtype=np.intp)
        for columns in columns_PB:
            exact_BG, most_BG = exact_BCG[np.arange(B), columns], most_BCG[np.arange(B), columns]
            np.maximum(ends_G, (most_BG.sum(0) + (exact_BG - most_BG)).max(0), out=ends_G)
        never = _NEVER / 2
        exact_G, at_least_G = (np.where(its_G < never, -np.inf, its_G) for its_G in (ends_G, slow_G))
        return BranchScores(exact_G, at_least_G, self.slack)

    def bound(self, chosen: Sequence[int], columns: IntArray, low_s: float, high_s: float) -> FloatArray:
        """Bound the score of the remaining layers when the slowest branch must end in [low_s, high_s]; (R,).

        `chosen`: candidates of the first layers, branch after branch; `columns`: those of the next layer to
        bound, (R,). The window holds under the best assignment: at most `high_s` under one of them, at least
        `low_s` under all.
        """
        B, C, R, at = len(self.tables), len(self.assignments.beside_C), len(columns), 0
        within_RBC, most_RBC, least_RBC = (np.empty((R, B, C)) for _ in range(3))
        free_B = np.empty(B)
        for b, table in enumerate(self.tables):
            own, length = list(chosen[at : at + len(table.U_LRC)]), len(table.U_LRC)
            n = len(own)
            done_RC = (self.assignments.beside_C + table.U_LRC[np.arange(n), own].sum(axis=0))[None]
            if 0 <= len(chosen) - at < length:
                done_RC, n = done_RC + table.U_LRC[n, columns], n + 1
            at += length
            free_B[b] = table.free_L[n]
            within_RBC[:, b], most_RBC[:, b], least_RBC[:, b] = self._scores(table, n, done_RC, low_s, high_s)
        return self._bound(within_RBC, most_RBC, least_RBC, free_B)

    def _scores(
        self, table: BranchTable, n: int, done_RC: FloatArray, low_s: float, high_s: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Best scores of a branch's layers n.. that end in the window, before its end, after its start."""
        per_s, columns = 1 / self.cell_s, np.arange(done_RC.shape[1])
        last_RC = np.floor((high_s - done_RC) * (per_s * (1 + 1e-12))) + 1
        most_RC = table.most_CLG[columns, n, np.clip(last_RC, 0, self.grid_cells - 1).astype(np.intp)]
        over_RC = done_RC > high_s * (1 + 1e-12)
        most_RC = np.where(over_RC, _NEVER, most_RC)
        if not self.assignments.timed:
            return most_RC, most_RC, np.broadcast_to(table.free_L[n], done_RC.shape)
        # Each layer that remains loses less than a cell.
        first_RC = np.floor(np.maximum(low_s - done_RC, 0) * (per_s * (1 - 1e-12))) - (len(table.U_LRC) - n)
        first_RC = np.clip(first_RC, 0, self.grid_cells - 1).astype(np.intp)
        within_RC = np.where(over_RC, _NEVER, table.within_CLG[columns, n, first_RC])
        return np.minimum(within_RC, most_RC), most_RC, table.least_CLG[columns, n, first_RC]

    def _bound(
        self, within_RBC: FloatArray, most_RBC: FloatArray, least_RBC: FloatArray, free_B: FloatArray
    ) -> FloatArray:
        if self.assignments.exact:
            columns_PB, rows = self.assignments.columns_PB, np.arange(len(free_B))
            within_RPB, most_RPB = within_RBC[:, rows, columns_PB], most_RBC[:, rows, columns_PB]
        else:
            within_RPB, most_RPB = within_RBC.max(axis=2)[:, None], most_RBC.max(axis=2)[:, None]
        ends_RP = most_RPB.sum(axis=2) + (within_RPB - most_RPB).max(axis=2)
        best_R: FloatArray = ends_RP.max(axis=1, initial=_NEVER)
        if not self.limited:
            best_R = np.minimum(best_R, self._slow_enough(least_RBC, free_B))
        best_R[best_R < _NEVER / 2] = -np.inf
        return best_R

    def _slow_enough(self, least_RBC: FloatArray, free_B: FloatArray) -> FloatArray:
        """Best score of all branches that are slow enough under every assignment, (R,)."""
        gain_RBC = least_RBC - free_B[:, None]
        gain_R: FloatArray
        if self.left_XK is not None:
            gain_RBK = np.where(
                self.assignments.allowed_BK, gain_RBC[:, :, list(self.assignments.columns_K)], 0.0
            )
            gain_R = hall_bound(gain_RBK, self.left_XK)
        elif self.assignments.exact:
            gain_RPB = gain_RBC[:, np.arange(len(free_B)), self.assignments.columns_PB]
            gain_R = gain_RPB.max(axis=2).min(axis=1, initial=np.inf)
        else:
            gain_R = gain_RBC.max(axis=(1, 2))
        gain_R += free_B.sum()
        return gain_R


def mesh_bounds(
    log_p_NR: FloatArray, lut: MeshLUT, low_s: float, high_s: float, grid_cells: int = GRID_CELLS
) -> MeshBounds:
    """Compute the bounds of every branch on every column."""
    cell_s, found = high_s / (grid_cells - 1), list_assignments(lut)
    columns = [lut.children[k] for k in found.children_C]
    longest = max(len(own) for own in lut.branch_layers)
    width = math.ceil((high_s - low_s) / cell_s) + 6 + longest
    tables = []
    for own in map(list, lut.branch_layers):
        U_LRC = lut.U_NRM[own][:, :, columns]
        tables.append(_branch_table(log_p_NR[own], lut.mask_NR[own], U_LRC, cell_s, width, grid_cells))
    left_XK = children_subsets(len(tables), len(lut.children)) if found.columns_K else None
    return MeshBounds(tuple(tables), found, grid_cells, cell_s, any(r.binds for r in lut.resources), left_XK)
