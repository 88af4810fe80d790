"""DAG model of a split problem: finish times of a placement, and the articulation points of the model.

Unit j starts when its device is free and all of its inputs have arrived:

    finish_j = tau_j^{m(j)} + max(free of m(j), max over i feeding j of (finish_i + epsilon_i^{m(i) -> m(j)}))

Unit j takes the call of its device in addition where it is the first unit there to read an output of another
device, or the raw input: so a part that receives its inputs together is called once. A device runs its units
one after another in the model's order, as an exported part does; transfers do not delay one another, as in
the broadcast of equation (2). On a chain this is equation (1), on a fork and join over different devices
equation (2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray, IntArray
from jmsnas.errors import TopologyError
from jmsnas.nas.split.links import LinkArrays


@dataclass(frozen=True, slots=True)
class Dag:
    """A model of N units over M devices.

    Attributes
    ----------
    tau_NM
        Seconds of unit n on device m; infinite where it may not run.
    routed_LMM
        Seconds to bring output n from one device to another by the fastest route; row 0 is the raw input.
    inputs
        For each unit the outputs it reads, by number: 0 is the raw input, n the output of the n-th unit.
        Units are in execution order, so a unit reads earlier outputs only; the last unit gives the result.
    call_M
        Seconds of a call of each device.
    raw_input
        Whether output 0 is the raw input, which even its own device is called with.
    """

    tau_NM: FloatArray
    routed_LMM: FloatArray
    inputs: tuple[tuple[int, ...], ...]
    call_M: FloatArray
    raw_input: bool = True

    def __post_init__(self) -> None:
        """Refuse inputs that are not earlier outputs, and outputs that no unit reads."""
        for n, outputs in enumerate(self.inputs, 1):
            if not outputs or not all(0 <= i < n for i in outputs):
                raise TopologyError(
                    f"unit {n} reads outputs {outputs}: expected one or more of 0 (the raw input) to {n - 1}"
                )
        unused = set(range(len(self.inputs))) - {i for outputs in self.inputs for i in outputs}
        if unused:
            raise TopologyError(
                f"no unit reads output {min(unused)}: expected readers of all but the last unit"
            )

    @property
    def N(self) -> int:
        """Number of units."""
        return len(self.inputs)

    @property
    def M(self) -> int:
        """Number of devices."""
        return int(self.tau_NM.shape[1])

    @property
    def received_LMM(self) -> FloatArray:  # noqa: N802
        """`routed_LMM` with the call of the receiving device: the least from an output to a unit's start."""
        called_LMM = np.broadcast_to(self.call_M, self.routed_LMM.shape).copy()
        called_LMM[1 if self.raw_input else 0 :, np.arange(self.M), np.arange(self.M)] = 0.0
        received_LMM: FloatArray = self.routed_LMM + called_LMM
        return received_LMM

    def calls_K(self, n: int, devices_KL: IntArray, own_K: IntArray) -> BoolArray:  # noqa: N802
        """Whether unit n on device `own_K` begins a call, under K placements of the units before it."""
        calls_K = np.zeros(len(own_K), dtype=bool)
        for i in self.inputs[n - 1]:
            new_K = devices_KL[:, i] != own_K if i or not self.raw_input else np.ones(len(own_K), dtype=bool)
            for j in self._readers(i, n):
                new_K = new_K & (devices_KL[:, j] != own_K)
            calls_K |= new_K
        return calls_K

    def unread_KM(self, n: int, i: int, devices_KL: IntArray) -> BoolArray:  # noqa: N802
        """Whether no unit up to n has read output i on each device, under K placements; (K, M)."""
        unread_KM = np.ones((len(devices_KL), self.M), dtype=bool)
        for j in self._readers(i, n + 1):
            unread_KM[np.arange(len(devices_KL)), devices_KL[:, j]] = False
        return unread_KM

    def _readers(self, i: int, before: int) -> list[int]:
        """Units before unit `before` that read output i."""
        return [j for j in range(i + 1, before) if i in self.inputs[j - 1]]


@dataclass(frozen=True, slots=True)
class DagSplit:
    """A placement (the device of each unit), its T, and a lower bound of T; seconds."""

    latency_s: float
    bound_s: float
    devices: tuple[int, ...]

    @property
    def optimal(self) -> bool:
        """Whether the placement is proven optimal, to one part in 10^9."""
        return not self.latency_s or 1 - self.bound_s / self.latency_s <= 1e-9


def make_dag(
    tau_NM: FloatArray,
    sent_bytes_L: FloatArray,
    links: LinkArrays,
    inputs: Sequence[Sequence[int]],
    call_M: FloatArray | None = None,
) -> Dag:
    """Make a DAG from the bytes of each output as float32 (row 0: the encoded raw input).

    `call_M`: seconds of a call of each device; None for no cost. Raises TopologyError.
    """
    raw_input, *sizes = sent_bytes_L.tolist()
    routes = {size: links.routed_MM(size)[0] for size in set(sizes)}
    routed_LMM = np.array([links.routed_MM(raw_input, True)[0], *(routes[size] for size in sizes)])
    call_M = np.zeros(links.M) if call_M is None else call_M
    return Dag(tau_NM, routed_LMM, tuple(tuple(outputs) for outputs in inputs), call_M)


def finish_times(dag: Dag, devices_KN: IntArray, source_K: IntArray) -> FloatArray:
    """Seconds at which each output of K placements is ready, (K, N + 1); row 0 is at time 0."""
    K, rows = len(devices_KN), np.arange(len(devices_KN))
    devices_KL = np.concatenate([source_K[:, None], devices_KN], axis=1)
    finish_KL, free_KM = np.zeros((K, dag.N + 1)), np.zeros((K, dag.M))
    for n, outputs in enumerate(dag.inputs, 1):
        own_K = devices_KL[:, n]
        start_K = free_KM[rows, own_K]
        for i in outputs:
            start_K = np.maximum(start_K, finish_KL[:, i] + dag.routed_LMM[i, devices_KL[:, i], own_K])
        called_K = dag.call_M[own_K] * dag.calls_K(n, devices_KL, own_K)
        finish_KL[:, n] = start_K + called_K + dag.tau_NM[n - 1, own_K]
        free_KM[rows, own_K] = finish_KL[:, n]
    return finish_KL


def dag_latency(dag: Dag, devices: Sequence[int], source: int = 0, target: int | None = None) -> float:
    """T of one placement, seconds; the result is sent to `target` unless that is None."""
    devices_KN = np.array([devices], dtype=np.intp)
    latency_s = float(finish_times(dag, devices_KN, np.array([source]))[0, -1])
    return latency_s + (0.0 if target is None else float(dag.routed_LMM[-1, devices[-1], target]))


def articulation_points(dag: Dag) -> tuple[int, ...]:
    """Outputs that every path from raw input to result passes, these two included."""
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
