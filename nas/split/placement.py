"""Placement of layers on a chain of devices: the cuts D^m of equation (1), and the terms of its latency."""

from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.errors import TopologyError
from jmsnas.latency import completion_latency


@dataclass(frozen=True, slots=True)
class Placement:
    """Cuts of a chain, (c_1, ..., c_M): device m runs layers c_{m-1}+1 .. c_m, counted from 1.

    Link m carries the output of layer c_m (c = 0: the raw input). A device with no layer relays.
    On a mesh the cuts are of trunk and tail, and `children[b]` runs branch b. `order`: the branches in the
    order in which the root sends to them with serial fan-out; empty: in the order of the branches.
    """

    cuts: tuple[int, ...]
    children: tuple[int, ...] = ()
    order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse cuts that decrease."""
        if not self.cuts or list(self.cuts) != sorted(self.cuts) or self.cuts[0] < 0:
            raise TopologyError(f"cuts {self.cuts} of a chain decrease: expected 0 <= c_1 <= ... <= c_M = N")

    @property
    def layers(self) -> tuple[range, ...]:
        """D^m of each device, as layer numbers from 1; empty for a device that only relays."""
        starts = (0, *self.cuts[:-1])
        return tuple(range(start + 1, cut + 1) for start, cut in zip(starts, self.cuts, strict=True))

    @property
    def devices(self) -> tuple[int, ...]:
        """Index of the device that runs each layer, non-decreasing, (N,)."""
        return tuple(m for m, layers in enumerate(self.layers) for _ in layers)


@dataclass(frozen=True, slots=True)
class LatencyTerm:
    """Contribution of one device to equation (1) or (2): tau_D^m and eps^m, seconds; `layers` counted from 1.

    `call_s`: seconds to call the device's part, in addition to tau; 0 without layers.
    `epsilon_root_s`: for a child of a tree, seconds until the root's output arrives (eps^{r->m}, and with
    serial fan-out the copies before it). `return_s`: seconds to send the result back from this device.
    `memory_bytes` and `energy_j` are used by one inference, None where unknown.
    """

    device: str
    layers: tuple[int, ...]
    tau_s: float
    epsilon_s: float
    sent_bytes: float
    epsilon_root_s: float = 0.0
    return_s: float = 0.0
    memory_bytes: float | None = None
    energy_j: float | None = None
    call_s: float = 0.0


def placement_from_devices(devices: tuple[int, ...], device_count: int) -> Placement:
    """Make the placement in which layer n runs on `devices[n]`. Raises TopologyError."""
    counts = np.bincount(np.array(devices, dtype=np.intp), minlength=device_count)
    placement = Placement(tuple(int(cut) for cut in np.cumsum(counts)))
    if placement.devices != devices:
        raise TopologyError(
            f"devices {devices} of a chain decrease from layer to layer: expected data to flow forward"
        )
    return placement


def chain_latency(
    tau_NM: FloatArray,
    epsilon_LM: FloatArray,
    placement: Placement,
    stop_early: bool = False,
    call_M: FloatArray | None = None,
) -> float:
    """T of a placement on a chain by equation (1), in seconds; tau, epsilon and calls as in `solve_chain`.

    With `stop_early` the result stays where the last layer ran: later links carry nothing.
    """
    tau_s, epsilon_s = chain_terms(tau_NM, epsilon_LM, placement, stop_early)
    if call_M is not None:
        tau_s = [tau + call for tau, call in zip(tau_s, chain_calls(placement, call_M), strict=True)]
    return float(completion_latency(tau_s, epsilon_s))


def chain_calls(placement: Placement, call_M: FloatArray) -> list[float]:
    """Seconds to call each device's part; 0 for a device without layers."""
    return [float(call_s) if layers else 0.0 for layers, call_s in zip(placement.layers, call_M, strict=True)]


def chain_terms(
    tau_NM: FloatArray, epsilon_LM: FloatArray, placement: Placement, stop_early: bool = False
) -> tuple[list[float], list[float]]:
    """tau_D^m (without calls) and eps^m of each device, in seconds; see `chain_latency`."""
    N = tau_NM.shape[0]
    tau_s = [float(sum(tau_NM[n - 1, m] for n in layers)) for m, layers in enumerate(placement.layers)]
    epsilon_s = [
        0.0 if stop_early and cut == N else float(epsilon_LM[cut, m]) for m, cut in enumerate(placement.cuts)
    ]
    return tau_s, epsilon_s
