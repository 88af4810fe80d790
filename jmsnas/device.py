"""A device of the network: what speaks for it, and what it allows."""

import math
from dataclasses import dataclass

from jmsnas.errors import TopologyError


@dataclass(frozen=True, slots=True)
class Device:
    """A place in the network: `table` names the latency table (and estimator) that speaks for it.

    Attributes
    ----------
    min_layers, max_layers
        How many layers it may run; `min_layers` on the UE keeps the raw input from leaving it.
    layers
        How many it runs where the split is fixed; None: an equal part.
    memory_bytes, energy_j
        What its layers may take of it, an inference; None: no limit.
    power_w, send_power_w
        What it draws while computing and while sending, watts; None: not known.
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

    def __post_init__(self) -> None:
        """Refuse limits that contradict one another."""
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
                f"device {self.name} has an energy limit and no power: state its power while computing, "
                'as in power = "5W"'
            )
