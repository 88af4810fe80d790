"""A device of a topology: its latency table and its limits on layers, memory and energy."""

import math
from dataclasses import dataclass, field

from jmsnas.errors import TopologyError
from jmsnas.topology_figures import DeviceFigures


@dataclass(frozen=True, slots=True)
class Device:
    """A device of a topology.

    Attributes
    ----------
    table
        Name of the latency table and estimator that predict its latencies.
    min_layers, max_layers
        Bounds on the layers it runs; `min_layers` >= 1 on the UE keeps the raw input from leaving it.
    layers
        Layers it runs when the split is fixed; None: an equal share.
    memory_bytes, energy_j
        Limits on the memory of its layers and on their energy per inference; None: no limit.
    power_w, send_power_w
        Power while computing and while sending, watts; None: unknown.
    call_s
        Seconds that a call of its part costs beyond the part's layers; not spent where it runs no layer.
    measured
        What its agent described; None where nothing was measured.
    """

    name: str
    table: str
    role: str
    runtime: str = "onnxruntime"
    min_layers: int = 0
    max_layers: int | None = None
    layers: int | None = None
    memory_bytes: float | None = None
    energy_j: float | None = None
    power_w: float | None = None
    send_power_w: float | None = None
    call_s: float = 0.0
    measured: DeviceFigures | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Raise TopologyError for contradictory limits."""
        most = math.inf if self.max_layers is None else self.max_layers
        if not 0 <= self.min_layers <= most:
            raise TopologyError(
                f"device {self.name} has min_layers {self.min_layers} and max_layers {self.max_layers}: "
                "expected 0 <= min_layers <= max_layers"
            )
        if self.layers is not None and not self.min_layers <= self.layers <= most:
            raise TopologyError(
                f"device {self.name} has layers = {self.layers}, min_layers {self.min_layers} and max_layers "
                f"{self.max_layers}: expected min_layers <= layers <= max_layers"
            )
        if self.energy_j is not None and self.power_w is None:
            raise TopologyError(
                f"device {self.name} has an energy limit but no power: add its power while computing, "
                'as in power = "5W"'
            )
        if not 0 <= self.call_s < math.inf:
            raise TopologyError(
                f"device {self.name} has call_s = {self.call_s}: expected seconds of 0 or more, finite"
            )
