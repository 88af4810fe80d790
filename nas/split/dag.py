"""The best split of any network (a DAG) over any graph of devices, proven or with the gap stated.

Unit j starts when its device is free and all it takes has arrived:

    finish_j = tau_j^{m(j)} + max(free of m(j), max over i feeding j of (finish_i + epsilon_i^{m(i) -> m(j)}))

A device runs its units one after another in the network's order, as a part that was exported does; transfers
do not hold one another up, as in the broadcast of equation (2). On a chain this is (1), on a fork and join
over different devices (2). Where all of the network passes through one output, what comes before and after
only shares that output's device: such stretches are solved apart (dag_segment.py) and joined by a shortest
path.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.nas.split.links import Array, LinkArrays


@dataclass(frozen=True, slots=True)
class Dag:
    """A network of N units over M devices.

    Attributes
    ----------
    tau_NM
        Seconds of unit n on device m; infinite where it may not run.
    routed_LMM
        Seconds to bring output n from a device to another by the fastest way; row 0 is the raw input.
    takes
        For each unit the outputs it takes, by number: 0 is the raw input, n the output of the n-th unit.
        Units stand in the order they run, so a unit takes earlier outputs only; the last unit gives the
        result.
    """

    tau_NM: Array
    routed_LMM: Array
    inputs: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        """Refuse what is no network."""
        for n, outputs in enumerate(self.inputs, 1):
            if not outputs or not all(0 <= i < n for i in outputs):
                raise TopologyError(
                    f"unit {n} takes outputs {outputs}: expected one or more of 0 (the raw input) to {n - 1}"
                )
        unused = set(range(len(self.inputs))) - {i for outputs in self.inputs for i in outputs}
        if unused:
            raise TopologyError(
                f"nobody takes output {min(unused)}: expected the last unit to be the only one that ends"
            )

    @property
    def N(self) -> int:
        """Number of units."""
        return len(self.inputs)

    @property
    def M(self) -> int:
        """Number of devices."""
        return int(self.tau_NM.shape[1])


@dataclass(frozen=True, slots=True)
class DagSplit:
    """T in seconds, the device of each unit, and a T that no split is below: the same where it is proven."""

    latency_s: float
    bound_s: float
    devices: tuple[int, ...]

    @property
    def gap(self) -> float:
        """Share of T that a better split could save at most; 0 where it is proven that none does."""
        return max(0.0, 1 - self.bound_s / self.latency_s) if self.latency_s else 0.0

    @property
    def optimal(self) -> bool:
        """Whether it is proven that no split is faster, to one part in 10^9."""
        return self.gap <= 1e-9


def make_dag(tau_NM: Array, sent_bytes_L: Array, links: LinkArrays, inputs: Sequence[Sequence[int]]) -> Dag:
    """Make a DAG from bytes of each output as float32 (row 0: the encoded raw input). Raises NetworkError."""
    ways: dict[tuple[float, bool], Array] = {}
    for n, size in enumerate(sent_bytes_L.tolist()):
        if (size, n == 0) not in ways:
            ways[size, n == 0] = links.routed_MM(size, n == 0)[0]
    routed_LMM = np.array([ways[size, n == 0] for n, size in enumerate(sent_bytes_L.tolist())])
    return Dag(tau_NM, routed_LMM, tuple(tuple(outputs) for outputs in inputs))


def finish_times(dag: Dag, devices_KN: NDArray[np.intp], source_K: NDArray[np.intp]) -> Array:
    """Seconds at which each output is made, of K placements at once, (K, N + 1); row 0 is at time 0."""
    K, rows = len(devices_KN), np.arange(len(devices_KN))
    places_KL = np.concatenate([source_K[:, None], devices_KN], axis=1)
    finish_KL, free_KM = np.zeros((K, dag.N + 1)), np.zeros((K, dag.M))
    for n, outputs in enumerate(dag.inputs, 1):
        own_K = places_KL[:, n]
        start_K = free_KM[rows, own_K]
        for i in outputs:
            start_K = np.maximum(start_K, finish_KL[:, i] + dag.routed_LMM[i, places_KL[:, i], own_K])
        finish_KL[:, n] = start_K + dag.tau_NM[n - 1, own_K]
        free_KM[rows, own_K] = finish_KL[:, n]
    return finish_KL


def dag_latency(dag: Dag, devices: Sequence[int], source: int = 0, target: int | None = None) -> float:
    """T of one placement, seconds; the result is brought to `target` where there is one."""
    devices_KN = np.array([devices], dtype=np.intp)
    latency_s = float(finish_times(dag, devices_KN, np.array([source]))[0, -1])
    return latency_s + (0.0 if target is None else float(dag.routed_LMM[-1, devices[-1], target]))


def articulation_points(dag: Dag) -> tuple[int, ...]:
    """Outputs through which all of the network passes, the raw input and the result among them."""
    last_use = list(range(dag.N + 1))
    for n, outputs in enumerate(dag.inputs, 1):
        for i in outputs:
            last_use[i] = max(last_use[i], n)
    found, open_until = [0], last_use[0]
    for n in range(1, dag.N + 1):
        if open_until <= n:
            found.append(n)
        open_until = max(open_until, last_use[n])
    return tuple(found)


def refuse_unplaced(latency_s: float, dag: Dag) -> None:
    """Raise TargetError when no placement was found at all."""
    if not np.isfinite(latency_s):
        raise InfeasibleError(
            f"no split of {dag.N} units over {dag.M} devices: no way leads through all of them"
        )
