"""A device that answers with its published roofline, without a table or a fit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.profiler.simulation.device_file import SimulatedDevice
from jmsnas.profiler.simulation.roofline import block_latency_s
from jmsnas.space import Block


@dataclass(frozen=True, slots=True)
class Roofline:
    """U(.) of a simulated device, computed anew for each block."""

    device: SimulatedDevice
    runtime: str = "onnxruntime"

    def predict_s(self, blocks: Sequence[Block]) -> NDArray[np.float64]:
        """Seconds of each block."""
        return np.array([block_latency_s(self.device, self.runtime, block) for block in blocks])
