"""Which layers run on which device: D^m and d(m) of equation (1), and the time of every term."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import TopologyError
from jmsnas.latency import completion_latency


@dataclass(frozen=True, slots=True)
class Placement:
    """A chain's split: `cuts` = (c_1, ..., c_M), device m runs layers c_{m-1}+1 .. c_m (counted from 1).

    Link m carries the output of layer c_m onward (c = 0: the raw input). A device with no layer relays.
    On a mesh the cuts are of its line (trunk and tail), and `children[b]` runs branch b.
    """

    cuts: tuple[int, ...]
    children: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse cuts that go back."""
        if not self.cuts or list(self.cuts) != sorted(self.cuts) or self.cuts[0] < 0:
            raise TopologyError(
                f"cuts {self.cuts} of a chain must not fall: expected 0 <= c_1 <= ... <= c_M = N"
            )

    @property
    def layers(self) -> tuple[range, ...]:
        """D^m of each device, as layer numbers from 1; empty for a relay."""
        starts = (0, *self.cuts[:-1])
        return tuple(range(start + 1, cut + 1) for start, cut in zip(starts, self.cuts, strict=True))

    @property
    def devices(self) -> tuple[int, ...]:
        """Index of the device that runs each layer, N numbers that never fall."""
        return tuple(m for m, layers in enumerate(self.layers) for _ in layers)


@dataclass(frozen=True, slots=True)
class LatencyTerm:
    """One device's share of equation (1) or (2): tau_D^m and eps^m, seconds; `layers` as numbers from 1.

    `epsilon_root_s`: for a child of a tree, seconds until the root's output is with it (eps^{r->m}, and with
    serial fan-out the copies before it). `return_s`: to bring the result back from here. `memory_bytes` and
    `energy_j` are what an inference takes of the device, None where it is not known.
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


def placement_from_devices(devices: tuple[int, ...], device_count: int) -> Placement:
    """Make the placement in which layer n runs on `devices[n]`. Raises NetworkError."""
    counts = np.bincount(devices, minlength=device_count)
    placement = Placement(tuple(int(cut) for cut in np.cumsum(counts)))
    if placement.devices != devices:
        raise TopologyError(f"devices {devices} of a chain must not fall from layer to layer")
    return placement


def chain_latency(
    tau_NM: NDArray[np.float64],
    epsilon_LM: NDArray[np.float64],
    placement: Placement,
    stop_early: bool = False,
) -> float:
    """T of equation (1) in seconds.

    Parameters
    ----------
    tau_NM
        Seconds of layer n on device m.
    epsilon_LM
        Seconds to send the output of layer n (row 0: the raw input) over the link behind device m; its last
        column is 0 (eps^M = 0).
    stop_early
        The result stays where the last layer ran: links behind that device carry nothing.
    """
    tau_s, epsilon_s = chain_terms(tau_NM, epsilon_LM, placement, stop_early)
    return float(completion_latency(tau_s, epsilon_s))


def chain_terms(
    tau_NM: NDArray[np.float64],
    epsilon_LM: NDArray[np.float64],
    placement: Placement,
    stop_early: bool = False,
) -> tuple[list[float], list[float]]:
    """tau_D^m and eps^m of each device, in seconds; see `chain_latency`."""
    N = tau_NM.shape[0]
    tau_s = [float(sum(tau_NM[n - 1, m] for n in layers)) for m, layers in enumerate(placement.layers)]
    epsilon_s = [
        0.0 if stop_early and cut == N else float(epsilon_LM[cut, m]) for m, cut in enumerate(placement.cuts)
    ]
    return tau_s, epsilon_s
