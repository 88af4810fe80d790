"""Optimal split of any model (a DAG) over any topology, proven or with the optimality gap stated.

The model is cut at its articulation points into segments, which share only the device of the output between
them. The least latency of a segment for each pair of end devices is bounded first: from below by the longest
of all paths without waiting, from above by any placement. A shortest path over the end devices is found by
the lower bounds; each pair of ends on it that is not exact yet is solved, by enumeration or as a
mixed-integer linear program (dag_milp.py), and the path found again. When all of it is exact, it is optimal.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.dag import (
    Dag,
    DagSplit,
    articulation_points,
    dag_latency,
    finish_times,
)
from jmsnas.nas.split.dag_milp import normalised, solve_milp

# A segment with more placements than this goes to the integer program.
_MAX_ENUMERATED = 200_000
_SLACK = 1 + 1e-12


def solve_dag(
    dag: Dag,
    source: int = 0,
    target: int | None = None,
    time_limit_s: float = 30.0,
    return_M: FloatArray | None = None,
) -> DagSplit:
    """Find the placement of least T of a model over a topology.

    `source` holds the raw input and `target` needs the result (None: it may stay); `return_M` are the seconds
    to send the result back from the device where it ends up. After `time_limit_s` the best placement found is
    returned with its lower bound. Raises InfeasibleError when no route leads through all units.
    """
    deadline = time.monotonic() + time_limit_s
    ends = articulation_points(dag)
    segments = [make_segment(dag, entry, exit_) for entry, exit_ in zip(ends, ends[1:], strict=False)]

    return_M = np.zeros(dag.M) if return_M is None else return_M
    final_M = return_M if target is None else dag.routed_LMM[-1, :, target] + return_M[target]
    known: set[tuple[int, int, int]] = set()
    while True:
        bound_s, path = _shortest_path([segment.low_MM for segment in segments], source, final_M)
        if not np.isfinite(bound_s):
            raise InfeasibleError(
                f"no split of {dag.N} units over {dag.M} devices: no route leads through all of them"
            )
        open_ = [
            (k, a, b)
            for k, (segment, a, b) in enumerate(zip(segments, path, path[1:], strict=False))
            if segment.high_MM[a, b] > segment.low_MM[a, b] * _SLACK and (k, a, b) not in known
        ]
        if not open_ or time.monotonic() > deadline:
            break
        for k, a, b in open_:
            _solve_ends(segments[k], a, b, deadline - time.monotonic())
            known.add((k, a, b))
    _, path = _shortest_path([segment.high_MM for segment in segments], source, final_M)
    placed = [s.best_MMN[a, b] for s, a, b in zip(segments, path, path[1:], strict=False)]
    devices = tuple(int(m) for m in np.concatenate(placed))
    end = devices[-1] if target is None else target
    latency_s = dag_latency(dag, devices, source, target) + float(return_M[end])
    return DagSplit(latency_s, min(bound_s, latency_s), devices)


def _shortest_path(
    seconds_MM: Sequence[FloatArray], source: int, final_M: FloatArray
) -> tuple[float, list[int]]:
    """Least sum along the segments from `source`, and the device of each output between them."""
    M = len(final_M)
    best_M = np.where(np.arange(M) == source, 0.0, np.inf)
    came_from = []
    for segment_MM in seconds_MM:
        reached_MM = best_M[:, None] + segment_MM
        came_from.append(reached_MM.argmin(axis=0))
        best_M = reached_MM.min(axis=0)
    ends_M = best_M + final_M
    path = [int(ends_M.argmin())]
    for origin_M in reversed(came_from):
        path.append(int(origin_M[path[-1]]))
    return float(ends_M.min()), path[::-1]


@dataclass(frozen=True, slots=True)
class Segment:
    """The units after output `entry` up to unit `exit` as a DAG of their own, the exit last.

    `low_MM` and `high_MM` bound the seconds from the entry's end on device a to the exit's end on device b;
    `best_MMN` is the placement that reaches `high_MM`. `through_NMMM`: the least seconds of a path through
    unit n on device m, for each pair of ends: (units, m, a, b).
    """

    dag: Dag
    low_MM: FloatArray
    high_MM: FloatArray
    through_NMMM: FloatArray
    best_MMN: IntArray


def make_segment(whole: Dag, entry: int, exit_: int) -> Segment:
    """Cut the units entry + 1 .. exit_ out of a DAG, and bound their latency."""
    inputs = tuple(tuple(i - entry for i in outputs) for outputs in whole.inputs[entry:exit_])
    dag = Dag(whole.tau_NM[entry:exit_], whole.routed_LMM[entry : exit_ + 1], inputs)
    through_NMMM, low_MM = _path_bounds(dag)
    M, N = dag.M, dag.N
    high_MM, best_MMN = np.full((M, M), np.inf), np.zeros((M, M, N), dtype=np.intp)
    segment = Segment(dag, low_MM, high_MM, through_NMMM, best_MMN)
    # Every placement of the inner units on one device.
    a, inner, b = np.stack(np.meshgrid(range(M), range(M), range(M), indexing="ij")).reshape(3, -1)
    devices_KN = np.repeat(inner[:, None], N, axis=1)
    devices_KN[:, -1] = b
    _keep_faster(segment, devices_KN, a)
    return segment


def _keep_faster(segment: Segment, devices_KN: IntArray, a_K: IntArray) -> None:
    """Time K placements from end device `a_K`, and keep the fastest of each pair of ends in the segment."""
    finish_K = finish_times(segment.dag, devices_KN, a_K)[:, -1]
    order, b_K = np.argsort(-finish_K, kind="stable"), devices_KN[:, -1]
    order = order[finish_K[order] < segment.high_MM[a_K[order], b_K[order]]]
    segment.high_MM[a_K[order], b_K[order]] = finish_K[order]  # the last one written is the least
    segment.best_MMN[a_K[order], b_K[order]] = devices_KN[order]


def _path_bounds(dag: Dag) -> tuple[FloatArray, FloatArray]:
    """Least seconds of the longest path through each unit on each device, and of the longest path."""
    N, M = dag.N, dag.M
    # head[n][a, m]: from the entry on a to the end of unit n on m; tail[n][m, b]: from there to the exit.
    head = np.zeros((N + 1, M, M))
    head[0] = np.where(np.eye(M, dtype=bool), 0.0, np.inf)
    for n, outputs in enumerate(dag.inputs, 1):
        arrivals = [_min_plus(head[i], dag.routed_LMM[i]) for i in outputs]
        head[n] = np.max(arrivals, axis=0) + dag.tau_NM[n - 1]
    tail = np.full((N + 1, M, M), -np.inf)
    tail[N] = np.where(np.eye(M, dtype=bool), 0.0, np.inf)
    for n in range(N, 0, -1):
        onward = dag.tau_NM[n - 1][:, None] + tail[n]
        for i in dag.inputs[n - 1]:
            tail[i] = np.maximum(tail[i], _min_plus(dag.routed_LMM[i], onward))
    through_NMMM = head[1:].transpose(0, 2, 1)[:, :, :, None] + tail[1:, :, None, :]
    return through_NMMM, through_NMMM.min(axis=1).max(axis=0)


def _min_plus(first_MM: FloatArray, second_MM: FloatArray) -> FloatArray:
    """Min-plus matrix product."""
    least_MM: FloatArray = (first_MM[:, :, None] + second_MM[None]).min(axis=1)
    return least_MM


def _solve_ends(segment: Segment, a: int, b: int, left_s: float) -> None:
    """Solve one pair of end devices: by enumeration of the feasible devices, else by the integer program."""
    most_s = segment.high_MM[a, b] * _SLACK
    devices = [np.flatnonzero(row <= most_s) for row in segment.through_NMMM[:, :, a, b]]
    devices[-1] = np.array([b])
    if math.prod(len(own) for own in devices) <= _MAX_ENUMERATED:
        grid = np.meshgrid(*devices, indexing="ij")
        devices_KN = np.stack([axis.ravel() for axis in grid], axis=1)
        _keep_faster(segment, devices_KN, np.full(len(devices_KN), a))
        segment.low_MM[a, b] = segment.high_MM[a, b]
        return
    small, unit_s = normalised(segment.dag)
    bound, placed = solve_milp(small, a, devices, segment.high_MM[a, b] / unit_s, max(left_s, 0.1))
    if placed is not None:
        _keep_faster(segment, np.array([placed], dtype=np.intp), np.array([a]))
    # The bound of HiGHS is accurate to about 10^-9 of the largest number.
    bound_s = min(bound * unit_s, segment.high_MM[a, b])
    segment.low_MM[a, b] = max(segment.low_MM[a, b], bound_s)
