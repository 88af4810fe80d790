"""What a plan takes of each device beside time: bytes of memory, joules.

N layers, R candidates, M devices, L = N + 1 outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.cost import cost, operators
from jmsnas.device import Device
from jmsnas.nas.split.solve_chain import ResourceBudget
from jmsnas.space import Block, SearchSpace

_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the devices: see `ResourceBudget`, for every candidate.

    `what` is memory (bytes: the float32 weights of a device's layers, and the largest input and output of one
    operator among them) or energy (joules: power x tau, and the power of sending x epsilon).
    """

    what: str
    use_NRM: NDArray[np.float64]
    peak_NR: NDArray[np.float64]
    sent_LM: NDArray[np.float64]
    limit_M: NDArray[np.float64]

    def budget(self, indices: Sequence[int]) -> ResourceBudget:
        """What one architecture (candidate `indices[n]` at layer n) uses."""
        rows, columns = np.arange(len(indices)), list(indices)
        peak_NM = np.repeat(self.peak_NR[rows, columns][:, None], len(self.limit_M), axis=1)
        return ResourceBudget(self.use_NRM[rows, columns], peak_NM, self.sent_LM, self.limit_M)

    def most(self) -> ResourceBudget:
        """What the architecture uses that takes most of every device in every layer."""
        peak_NM = np.repeat(self.peak_NR.max(axis=1)[:, None], len(self.limit_M), axis=1)
        return ResourceBudget(self.use_NRM.max(axis=1), peak_NM, self.sent_LM, self.limit_M)

    def part(self, layers: Sequence[int], devices: Sequence[int], outputs: Sequence[int]) -> "Resource":
        """Give the same for some of the layers and devices; `outputs` are the rows of what is sent."""
        return Resource(
            self.what,
            self.use_NRM[list(layers)][:, :, list(devices)],
            self.peak_NR[list(layers)],
            self.sent_LM[list(outputs)][:, list(devices)],
            self.limit_M[list(devices)],
        )

    @property
    def binds(self) -> bool:
        """Whether any architecture under any split could exceed a limit."""
        most_M = self.use_NRM.max(axis=1).sum(axis=0) + self.peak_NR.max() + self.sent_LM.max(axis=0)
        return bool((most_M > self.limit_M).any())


def device_resources(
    space: SearchSpace,
    devices: Sequence[Device],
    U_NRM: NDArray[np.float64],
    epsilon_LM: NDArray[np.float64],
) -> tuple[Resource, ...]:
    """Give memory, and energy where a device states its power (0 J for one that does not)."""
    weights_NR, peak_NR = np.zeros(U_NRM.shape[:2]), np.zeros(U_NRM.shape[:2])
    for n, (layer, choices) in enumerate(zip(space.layers, space.choices, strict=True)):
        for i, candidate in enumerate(choices):
            block = Block(candidate, layer)
            weights_NR[n, i] = _FLOAT32_BYTES * cost(block).parameters
            numbers = [operator.read + operator.written for operator in operators(block)]
            peak_NR[n, i] = _FLOAT32_BYTES * max(numbers, default=0)
    memory_M = np.array([np.inf if d.memory_bytes is None else d.memory_bytes for d in devices])
    use_NRM = np.repeat(weights_NR[:, :, None], len(devices), axis=2)
    found = [Resource("memory", use_NRM, peak_NR, np.zeros_like(epsilon_LM), memory_M)]
    if any(device.power_w is not None for device in devices):
        power_M = np.array([device.power_w or 0.0 for device in devices])
        send_M = np.array([device.send_power_w or 0.0 for device in devices])
        energy_M = np.array([np.inf if d.energy_j is None else d.energy_j for d in devices])
        none_NR = np.zeros_like(peak_NR)
        found.append(Resource("energy", power_M * U_NRM, none_NR, send_M * epsilon_LM, energy_M))
    return tuple(found)
