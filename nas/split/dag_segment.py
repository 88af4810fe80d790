"""A stretch of a network between two outputs that everything passes: its least seconds for each pair of ends.

Bounds first: the longest of all paths without waiting is a bound from below, any placement one from above. A
device that no path through it can afford is struck out; what is left is tried out, or given to MILP.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.nas.split.dag import Dag, finish_times
from jmsnas.nas.split.links import Array

_SLACK = 1 + 1e-12


@dataclass(frozen=True, slots=True)
class Segment:
    """Units between output `entry` and unit `exit` as a network of its own, the exit last.

    Attributes
    ----------
    low_MM, high_MM
        Bounds of the seconds from the entry's end on device a to the exit's end on device b.
    through_NMMM
        The least seconds of a path by unit n on device m, for each pair of ends: (units, m, a, b).
    best_MMN
        The placement that reaches `high_MM`.
    """

    dag: Dag
    low_MM: Array
    high_MM: Array
    through_NMMM: Array
    best_MMN: NDArray[np.intp]


def make_segment(whole: Dag, entry: int, exit_: int) -> Segment:
    """Cut the units entry + 1 .. exit_ out of a network, and bound them."""
    inputs = tuple(tuple(i - entry for i in outputs) for outputs in whole.inputs[entry:exit_])
    dag = Dag(whole.tau_NM[entry:exit_], whole.routed_LMM[entry : exit_ + 1], inputs)
    through_NMMM, low_MM = _paths(dag)
    M, N = dag.M, dag.N
    high_MM, best_MMN = np.full((M, M), np.inf), np.zeros((M, M, N), dtype=np.intp)
    ends = np.stack(np.meshgrid(range(M), range(M), range(M), indexing="ij")).reshape(3, -1)
    a, inner, b = ends
    devices_KN = np.repeat(inner[:, None], N, axis=1)
    devices_KN[:, -1] = b
    keep_faster(high_MM, best_MMN, devices_KN, a, finish_times(dag, devices_KN, a)[:, -1])
    return Segment(dag, low_MM, high_MM, through_NMMM, best_MMN)


def keep_faster(
    high_MM: Array,
    best_MMN: NDArray[np.intp],
    devices_KN: NDArray[np.intp],
    a_K: NDArray[np.intp],
    t_K: Array,
) -> None:
    """Keep the best placement of each pair of ends; the arrays given are changed."""
    order = np.argsort(-t_K, kind="stable")
    high_before = high_MM.copy()
    b_K = devices_KN[:, -1]
    order = order[t_K[order] < high_before[a_K[order], b_K[order]]]
    high_MM[a_K[order], b_K[order]] = t_K[order]  # the last written is the least
    best_MMN[a_K[order], b_K[order]] = devices_KN[order]


def _paths(dag: Dag) -> tuple[Array, Array]:
    """Least seconds of the longest path through each unit on each device, and of the longest path of all."""
    N, M = dag.N, dag.M
    # head[n][a, m]: from the entry on a to the end of unit n on m; tail[n][m, b]: from there to the exit on
    # b.
    head = np.zeros((N + 1, M, M))
    head[0] = np.where(np.eye(M, dtype=bool), 0.0, np.inf)
    for n, outputs in enumerate(dag.inputs, 1):
        arrivals = [_least_sum(head[i], dag.routed_LMM[i]) for i in outputs]
        head[n] = np.max(arrivals, axis=0) + dag.tau_NM[n - 1]
    tail = np.full((N + 1, M, M), -np.inf)
    tail[N] = np.where(np.eye(M, dtype=bool), 0.0, np.inf)
    for n in range(N, 0, -1):
        onward = dag.tau_NM[n - 1][:, None] + tail[n]
        for i in dag.inputs[n - 1]:
            tail[i] = np.maximum(tail[i], _least_sum(dag.routed_LMM[i], onward))
    through_NMMM = head[1:].transpose(0, 2, 1)[:, :, :, None] + tail[1:, :, None, :]
    return through_NMMM, through_NMMM.min(axis=1).max(axis=0)


def _least_sum(first_MM: Array, second_MM: Array) -> Array:
    least_MM: Array = (first_MM[:, :, None] + second_MM[None]).min(axis=1)
    return least_MM


def feasible_devices(stretch: Segment, a: int, b: int) -> list[NDArray[np.intp]]:
    """Devices each unit may still run on, where a split is to beat what is known for these ends."""
    most_s = stretch.high_MM[a, b] * _SLACK
    found = [np.flatnonzero(row <= most_s) for row in stretch.through_NMMM[:, :, a, b]]
    found[-1] = np.array([b])
    return found


def enumerate_placements(stretch: Segment, a: int, b: int, devices: list[NDArray[np.intp]]) -> None:
    """Time every placement over the devices that are left, and keep the best."""
    grid = np.meshgrid(*devices, indexing="ij")
    devices_KN = np.stack([axis.ravel() for axis in grid], axis=1)
    a_K = np.full(len(devices_KN), a)
    finish_K = finish_times(stretch.dag, devices_KN, a_K)[:, -1]
    keep_faster(stretch.high_MM, stretch.best_MMN, devices_KN, a_K, finish_K)
    stretch.low_MM[a, b] = stretch.high_MM[a, b]
