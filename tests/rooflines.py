"""A device that answers with its published roofline, without a table or a fit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.profiler.simulated import predict_s
from jmsnas.profiler.simulated_device import SimulatedDevice
from jmsnas.space import Block


@dataclass(frozen=True, slots=True)
class Roofline:
    """U(.) of a simulated device, computed anew for each block."""

    device: SimulatedDevice
    runtime: str = "onnxruntime"

    def predict_s(self, blocks: Sequence[Block]) -> NDArray[np.float64]:
        """Seconds of each block."""
        return np.array([predict_s(self.device, self.runtime, block) for block in blocks])
