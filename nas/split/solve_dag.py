"""Join the stretches of a network: the shortest path over the devices of the outputs that all passes through.

The path is found by bounds from below; wherever a pair of ends on it is not known exactly, that pair is
solved (dag_segment.py) and the path found again. When all of it is known, no other can be shorter.
"""

import math
import time
from collections.abc import Sequence

import numpy as np

from jmsnas.nas.split.dag import (
    Dag,
    DagSplit,
    articulation_points,
    dag_latency,
    finish_times,
    refuse_unplaced,
)
from jmsnas.nas.split.dag_milp import normalised, solve_milp
from jmsnas.nas.split.dag_segment import (
    Segment,
    enumerate_placements,
    feasible_devices,
    keep_faster,
    make_segment,
)
from jmsnas.nas.split.links import Array

# More placements than this go to the integer program.
_MOST_TRIED = 200_000
_SLACK = 1 + 1e-12


def solve_dag(
    dag: Dag,
    source: int = 0,
    target: int | None = None,
    time_limit_s: float = 30.0,
    back_M: Array | None = None,
) -> DagSplit:
    """Find the placement of least T of a network over a graph of devices.

    Parameters
    ----------
    dag
        See `make_dag`.
    source, target
        Devices that hold the raw input and need the result; None where it may stay.
    back_M
        Seconds from the device where the result is in the end to where it goes back to.
    time_limit_s
        After it the best that was found is given, with the bound that holds by then.

    Raises
    ------
    TargetError
        When no way leads through all units.
    """
    deadline = time.monotonic() + time_limit_s
    ends = articulation_points(dag)
    stretches = [make_segment(dag, entry, exit_) for entry, exit_ in zip(ends, ends[1:], strict=False)]

    back_M = np.zeros(dag.M) if back_M is None else back_M
    final_M = back_M if target is None else dag.routed_LMM[-1, :, target] + back_M[target]
    known: set[tuple[int, int, int]] = set()
    while True:
        bound_s, path = _shortest([stretch.low_MM for stretch in stretches], source, final_M)
        refuse_unplaced(bound_s, dag)
        open_ = [
            (k, a, b)
            for k, (stretch, a, b) in enumerate(zip(stretches, path, path[1:], strict=False))
            if stretch.high_MM[a, b] > stretch.low_MM[a, b] * _SLACK and (k, a, b) not in known
        ]
        if not open_ or time.monotonic() > deadline:
            break
        for k, a, b in open_:
            _solve(stretches[k], a, b, deadline - time.monotonic())
            known.add((k, a, b))
    _, path = _shortest([stretch.high_MM for stretch in stretches], source, final_M)
    placed = [s.best_MMN[a, b] for s, a, b in zip(stretches, path, path[1:], strict=False)]
    devices = tuple(int(m) for m in np.concatenate(placed))
    end = devices[-1] if target is None else target
    latency_s = dag_latency(dag, devices, source, target) + float(back_M[end])
    return DagSplit(latency_s, min(bound_s, latency_s), devices)


def _solve(stretch: Segment, a: int, b: int, left_s: float) -> None:
    """Work out one pair of ends: by trying all that is affordable, else by the integer program."""
    devices = feasible_devices(stretch, a, b)
    if math.prod(len(its) for its in devices) <= _MOST_TRIED:
        enumerate_placements(stretch, a, b, devices)
        return
    small, unit_s = normalised(stretch.dag)
    bound, placed = solve_milp(small, a, devices, stretch.high_MM[a, b] / unit_s, max(left_s, 0.1))
    if placed is not None:
        devices_KN, a_K = np.array([placed], dtype=np.intp), np.array([a])
        finish_K = finish_times(stretch.dag, devices_KN, a_K)[:, -1]
        keep_faster(stretch.high_MM, stretch.best_MMN, devices_KN, a_K, finish_K)
    # HiGHS is sure of its bound to about 10^-9 of what is largest.
    bound_s = min(bound * unit_s, stretch.high_MM[a, b])
    stretch.low_MM[a, b] = max(stretch.low_MM[a, b], bound_s)


def _shortest(costs_MM: Sequence[Array], source: int, final_M: Array) -> tuple[float, list[int]]:
    """Least sum along the stretches from `source`, and the device of each output between them."""
    M = len(final_M)
    best_M = np.where(np.arange(M) == source, 0.0, np.inf)
    came_from = []
    for cost_MM in costs_MM:
        reached_MM = best_M[:, None] + cost_MM
        came_from.append(reached_MM.argmin(axis=0))
        best_M = reached_MM.min(axis=0)
    ends_M = best_M + final_M
    path = [int(ends_M.argmin())]
    for origin_M in reversed(came_from):
        path.append(int(origin_M[path[-1]]))
    return float(ends_M.min()), path[::-1]
