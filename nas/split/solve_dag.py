"""Optimal split of any model (a DAG) over any topology, proven or with the optimality gap stated.

The model is cut at its articulation points into segments, which share only the device of the output between
them. The least latency of a segment for each pair of end devices is bounded first: from below by the longest
of all paths without waiting, from above by placements on one device. Shortest paths over the end devices
bound T in the same way. The pairs of ends that can still improve on the best placement are searched by branch
and bound (dag_search.py) with more and more rows, until the bounds meet or time is over.
"""

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
from jmsnas.nas.split.dag_search import PlacementSearch

# Rows of the search of a segment, one pass over the segments after another.
_ROWS = (512, 4096, 32_768)
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
    bound_s, high_s, path = _bounds(segments, source, final_M)
    for most_rows in _ROWS:
        if high_s <= bound_s * _SLACK or time.monotonic() > deadline:
            break
        for k in range(len(segments)):
            _search_segment(segments, k, source, final_M, most_rows, deadline)
        bound_s, high_s, path = _bounds(segments, source, final_M)
    if not np.isfinite(high_s):
        raise InfeasibleError(
            f"no split of {dag.N} units over {dag.M} devices: no route leads through all of them"
        )
    placed = [s.best_MMN[a, b] for s, a, b in zip(segments, path, path[1:], strict=False)]
    devices = tuple(int(m) for m in np.concatenate(placed))
    end = devices[-1] if target is None else target
    latency_s = dag_latency(dag, devices, source, target) + float(return_M[end])
    return DagSplit(latency_s, min(bound_s, latency_s), devices)


def _bounds(
    segments: "Sequence[Segment]", source: int, final_M: FloatArray
) -> tuple[float, float, list[int]]:
    """Bounds of T in seconds from below and above, and the devices of the outputs between the segments."""
    bound_s, _ = _shortest_path([segment.low_MM for segment in segments], source, final_M)
    return bound_s, *_shortest_path([segment.high_MM for segment in segments], source, final_M)


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
    tail_LMM: FloatArray
    best_MMN: IntArray


def make_segment(whole: Dag, entry: int, exit_: int) -> Segment:
    """Cut the units entry + 1 .. exit_ out of a DAG, and bound their latency."""
    inputs = tuple(tuple(i - entry for i in outputs) for outputs in whole.inputs[entry:exit_])
    dag = Dag(
        whole.tau_NM[entry:exit_],
        whole.routed_LMM[entry : exit_ + 1],
        inputs,
        whole.call_M,
        whole.raw_input and entry == 0,
    )
    head_NMM, tail_LMM = _path_bounds(dag)
    through_NMMM = head_NMM.transpose(0, 2, 1)[:, :, :, None] + tail_LMM[1:, :, None, :]
    low_MM = through_NMMM.min(axis=1).max(axis=0)
    M, N = dag.M, dag.N
    high_MM, best_MMN = np.full((M, M), np.inf), np.zeros((M, M, N), dtype=np.intp)
    segment = Segment(dag, low_MM, high_MM, through_NMMM, tail_LMM, best_MMN)
    # Every placement of the inner units on one device.
    a_K, b_K = np.divmod(np.arange(M * M), M)
    for inner in range(M):
        devices_KN = np.full((M * M, N), inner)
        devices_KN[:, -1] = b_K
        _keep_faster(segment, devices_KN, a_K)
    return segment


def _keep_faster(segment: Segment, devices_KN: IntArray, a_K: IntArray) -> None:
    """Time K placements from end device `a_K`, and keep the fastest of each pair of ends in the segment."""
    finish_K = finish_times(segment.dag, devices_KN, a_K)[:, -1]
    order, b_K = np.argsort(-finish_K, kind="stable"), devices_KN[:, -1]
    order = order[finish_K[order] < segment.high_MM[a_K[order], b_K[order]]]
    segment.high_MM[a_K[order], b_K[order]] = finish_K[order]  # the last one written is the least
    segment.best_MMN[a_K[order], b_K[order]] = devices_KN[order]


def _path_bounds(dag: Dag) -> tuple[FloatArray, FloatArray]:
    """Least seconds of the longest path to the end of each unit, and from the end of each output."""
    N, M, received_LMM = dag.N, dag.M, dag.received_LMM
    # head[n][a, m]: from the entry on a to the end of unit n on m; tail[n][m, b]: from there to the exit.
    head = np.zeros((N + 1, M, M))
    head[0] = np.where(np.eye(M, dtype=bool), 0.0, np.inf)
    for n, outputs in enumerate(dag.inputs, 1):
        arrivals = [_min_plus(head[i], received_LMM[i]) for i in outputs]
        head[n] = np.max(arrivals, axis=0) + dag.tau_NM[n - 1]
    tail = np.full((N + 1, M, M), -np.inf)
    tail[N] = np.where(np.eye(M, dtype=bool), 0.0, np.inf)
    for n in range(N, 0, -1):
        onward = dag.tau_NM[n - 1][:, None] + tail[n]
        for i in dag.inputs[n - 1]:
            tail[i] = np.maximum(tail[i], _min_plus(received_LMM[i], onward))
    return head[1:], tail


def _min_plus(first_MM: FloatArray, second_MM: FloatArray) -> FloatArray:
    """Min-plus matrix product."""
    least_MM: FloatArray = (first_MM[:, :, None] + second_MM[None]).min(axis=1)
    return least_MM


def _search_segment(
    segments: Sequence[Segment], k: int, source: int, final_M: FloatArray, most_rows: int, deadline: float
) -> None:
    """Search the pairs of ends of segment k whose lower bound leaves a T below that of the best placement."""
    segment = segments[k]
    before_M, behind_M = np.where(np.arange(len(final_M)) == source, 0.0, np.inf), final_M
    for other in segments[:k]:
        before_M = (before_M[:, None] + other.low_MM).min(axis=0)
    for other in segments[:k:-1]:
        behind_M = (other.low_MM + behind_M).min(axis=1)
    best_s = _bounds(segments, source, final_M)[1]
    bound_MM = before_M[:, None] + segment.low_MM + behind_M
    asked_MM = (bound_MM * _SLACK < best_s) & (segment.low_MM * _SLACK < segment.high_MM)
    if not asked_MM.any():
        return
    limit_MM = np.full(asked_MM.shape, -np.inf)
    most_MM = segment.low_MM[asked_MM] + (best_s - bound_MM[asked_MM])
    limit_MM[asked_MM] = np.minimum(segment.high_MM[asked_MM], most_MM * _SLACK)
    devices = [
        np.flatnonzero((through_MMM <= limit_MM * _SLACK).any(axis=(1, 2)))
        for through_MMM in segment.through_NMMM
    ]
    devices[-1] = np.flatnonzero(asked_MM.any(axis=0))
    search = PlacementSearch(
        segment.dag, segment.dag.received_LMM, devices, segment.tail_LMM, limit_MM, deadline
    )
    below_MM, devices_KL = search.run(most_rows)
    if len(devices_KL):
        _keep_faster(segment, devices_KL[:, 1:], devices_KL[:, 0])
    low_MM = np.maximum(segment.low_MM, np.minimum(below_MM, segment.high_MM))
    segment.low_MM[asked_MM] = low_MM[asked_MM]
