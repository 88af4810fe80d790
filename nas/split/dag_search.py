"""Placement of a part of a DAG by branch and bound in the order of its units, for all pairs of end devices.

A level holds placements of the first units, K rows at a time. The bound of a row is the finish of the last
unit where each remaining unit takes, for each of its readers, the device that is best for it. A row is
dropped where its bound does not beat the limit, or where another row with the same devices is nowhere slower.
Of the others, those of least bound are kept: where none was left out, the search is exhaustive.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray, IntArray
from jmsnas.nas.split.dag import Dag

# Rows of the same devices that each row is compared with.
_COMPARED = 12
# Numbers in the arrays of a level, and in those that are computed at once: time is checked between these.
_LEVEL_SIZE, _STEP_SIZE = 1 << 23, 1 << 20


@dataclass(frozen=True, slots=True)
class Rows:
    """K placements of the first n units.

    `finish_KL` and `devices_KL`: seconds and device of outputs 0 .. n; `free_KM`: seconds until a device is
    free; `bound_KM`: lower bound of the finish of the last unit on each device.
    """

    finish_KL: FloatArray
    devices_KL: IntArray
    free_KM: FloatArray
    bound_KM: FloatArray

    @property
    def K(self) -> int:
        """Number of placements."""
        return len(self.free_KM)

    def take(self, rows: IntArray | slice | BoolArray) -> "Rows":
        """Select rows."""
        return Rows(self.finish_KL[rows], self.devices_KL[rows], self.free_KM[rows], self.bound_KM[rows])


def _concatenate(parts: Sequence[Rows]) -> Rows:
    return Rows(
        np.concatenate([part.finish_KL for part in parts]),
        np.concatenate([part.devices_KL for part in parts]),
        np.concatenate([part.free_KM for part in parts]),
        np.concatenate([part.bound_KM for part in parts]),
    )


def _arrived(rows: Rows, i: int, moved_LMM: FloatArray) -> FloatArray:
    """Seconds until output i of each row has arrived on each device, (K, M)."""
    arrived_KM: FloatArray = rows.finish_KL[:, i, None] + moved_LMM[i][rows.devices_KL[:, i]]
    return arrived_KM


@dataclass(frozen=True, slots=True)
class PlacementSearch:
    """Units of a DAG to place; output 0 is on a source from time 0.

    `received_LMM`: of the DAG. `devices`: those that each unit may run on. `tail_LMM`: least seconds from the
    end of each output on each device to the end of the last unit on each device. `limit_MM`: seconds from
    each source to each exit device that a placement must beat; -inf: not asked. `deadline`: time of
    `time.monotonic` to stop at.
    """

    dag: Dag
    received_LMM: FloatArray
    devices: Sequence[IntArray]
    tail_LMM: FloatArray
    limit_MM: FloatArray
    deadline: float

    def run(self, most_rows: int) -> tuple[FloatArray, IntArray]:
        """Search with at most `most_rows` rows a level.

        Returns a lower bound of the seconds from each source to each exit device, at most the limit; and the
        placements found with their sources first, (K, N + 1).
        """
        dag, below_MM = self.dag, self.limit_MM.copy()
        most_rows = max(1, min(most_rows, _LEVEL_SIZE // (dag.M * 2 * (dag.N + dag.M))))
        sources = np.flatnonzero((self.limit_MM > -np.inf).any(axis=1))
        S = len(sources)
        rows = Rows(np.zeros((S, 1)), sources[:, None], np.zeros((S, dag.M)), self.tail_LMM[0, sources])
        for n in range(1, dag.N + 1):
            left = [rows] if self._late() else []
            rows = rows.take(slice(0, 0)) if left else rows
            rows = _concatenate([self._expand(rows, n, m) for m in self.devices[n - 1].tolist()])
            if n < dag.N:
                rows, left_out = self._most_promising(rows, 4 * most_rows)
                rows = self._undominated(self._bounded(rows, n), n)
                rows, left_out_too = self._most_promising(rows, most_rows)
                left += [left_out, left_out_too]
            for part in left:
                np.minimum.at(below_MM, part.devices_KL[:, 0], part.bound_KM)
        np.minimum.at(below_MM, rows.devices_KL[:, 0], rows.bound_KM)
        return below_MM, rows.devices_KL

    def _late(self) -> bool:
        return time.monotonic() > self.deadline

    def _beats_limit(self, bound_KM: FloatArray, source_K: IntArray) -> BoolArray:
        return np.asarray((bound_KM < self.limit_MM[source_K]).any(axis=1))

    def _expand(self, rows: Rows, n: int, m: int) -> Rows:
        """Place unit n of every row on device m, and drop the rows whose bound does not beat the limit."""
        dag, start_K = self.dag, rows.free_KM[:, m]
        for i in dag.inputs[n - 1]:
            start_K = np.maximum(start_K, rows.finish_KL[:, i] + dag.routed_LMM[i, rows.devices_KL[:, i], m])
        if dag.call_M[m]:
            start_K = start_K + dag.call_M[m] * dag.calls_K(n, rows.devices_KL, np.full(rows.K, m))
        ends_K = start_K + dag.tau_NM[n - 1, m]
        bound_KM = np.maximum(rows.bound_KM, ends_K[:, None] + self.tail_LMM[n, m])
        keep = self._beats_limit(bound_KM, rows.devices_KL[:, 0])
        rows, ends_K = rows.take(keep), ends_K[keep]
        free_KM = rows.free_KM.copy()
        free_KM[:, m] = ends_K
        finish_KL = np.concatenate([rows.finish_KL, ends_K[:, None]], axis=1)
        devices_KL = np.concatenate([rows.devices_KL, np.full((rows.K, 1), m)], axis=1)
        return Rows(finish_KL, devices_KL, free_KM, bound_KM[keep])

    def _bounded(self, rows: Rows, n: int) -> Rows:
        """Improve the bounds while there is time, and drop the rows that do not beat the limit."""
        step, parts = max(1, _STEP_SIZE // self.dag.M**2), [rows.take(slice(0, 0))]
        for k in range(0, rows.K, step):
            part = rows.take(slice(k, k + step))
            if not self._late():
                bound_KM = np.maximum(self._bound(part, n), part.bound_KM)
                keep = self._beats_limit(bound_KM, part.devices_KL[:, 0])
                part = replace(part, bound_KM=bound_KM).take(keep)
            parts.append(part)
        return _concatenate(parts)

    def _bound(self, rows: Rows, n: int) -> FloatArray:
        """Bound the finish of the last unit on each device by free devices and all inputs, (K, M)."""
        dag, least = self.dag, dict[int, FloatArray]()
        for j in range(n + 1, dag.N + 1):
            own = self.devices[j - 1]
            start_KD = rows.free_KM[:, own]
            for i in dag.inputs[j - 1]:
                if i <= n:
                    arrived_KD = _arrived(rows, i, self.received_LMM)[:, own]
                else:
                    before = self.devices[i - 1]
                    moved = self.received_LMM[i][np.ix_(before, own)]
                    arrived_KD = (least[i][:, before, None] + moved).min(axis=1)
                start_KD = np.maximum(start_KD, arrived_KD)
            least[j] = np.full_like(rows.free_KM, np.inf)
            least[j][:, own] = start_KD + dag.tau_NM[j - 1, own]
        return least[dag.N]

    def _undominated(self, rows: Rows, n: int) -> Rows:
        """Drop rows that another row of the same source and devices of outputs still read does not exceed.

        Nor may that row have to call a device for an output that this one has called it for. A row is
        compared with few others, so that some of these rows remain.
        """
        if self._late():
            return rows
        live = [0, *sorted({i for outputs in self.dag.inputs[n:] for i in outputs if 0 < i <= n})]
        slow_KX = np.concatenate([rows.finish_KL[:, live], self._occupied(rows, n)], axis=1)
        slow_K = slow_KX.sum(axis=1)
        if self.dag.call_M.any():
            unread = [self.dag.unread_KM(n, i, rows.devices_KL) for i in live]
            slow_KX = np.concatenate([slow_KX, *unread], axis=1)
        group_K = np.zeros(rows.K, dtype=np.intp)
        for i in live:
            group_K = np.unique(group_K * self.dag.M + rows.devices_KL[:, i], return_inverse=True)[1]
        order = np.lexsort((slow_K, group_K))
        slow_KX, group_K = slow_KX[order], group_K[order]
        first_K = np.searchsorted(group_K, group_K)
        worse_K = np.zeros(rows.K, dtype=bool)
        for s in range(_COMPARED):
            own = np.flatnonzero(first_K + s < np.arange(rows.K))
            worse_K[own] |= (slow_KX[first_K[own] + s] <= slow_KX[own]).all(axis=1)
        return rows.take(np.sort(order[~worse_K]))

    def _occupied(self, rows: Rows, n: int) -> FloatArray:
        """Seconds until each device is free, and a remaining unit may first start there, (K, M)."""
        first_KM = np.full_like(rows.free_KM, np.inf)
        for j in range(n + 1, self.dag.N + 1):
            arrived = [_arrived(rows, i, self.dag.routed_LMM) for i in self.dag.inputs[j - 1] if i <= n]
            arrived_KM = np.maximum.reduce(arrived) if arrived else np.zeros_like(first_KM)
            own = self.devices[j - 1]
            first_KM[:, own] = np.minimum(first_KM[:, own], arrived_KM[:, own])
        return np.maximum(rows.free_KM, first_KM)

    def _most_promising(self, rows: Rows, count: int) -> tuple[Rows, Rows]:
        """Split off the rows of the least bounds less their limits; gives these, and the others."""
        if count >= rows.K:
            return rows, rows.take(slice(0, 0))
        limit_KM = self.limit_MM[rows.devices_KL[:, 0]]
        below_KM = rows.bound_KM - np.where(np.isfinite(limit_KM), limit_KM, 0.0)
        order = np.argsort(np.where(limit_KM > -np.inf, below_KM, np.inf).min(axis=1), kind="stable")
        return rows.take(order[:count]), rows.take(order[count:])
