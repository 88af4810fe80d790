"""Memory (bytes) and energy (joules) that the layers of a split use on each device.

N layers, R candidates, M devices, L = N + 1 outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.cost import cost, operators
from jmsnas.device import Device
from jmsnas.nas.split.solve_chain import ResourceBudget
from jmsnas.space import Block, SearchSpace

_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the devices: see `ResourceBudget`, for every candidate.

    `kind` is memory (bytes: the float32 weights of a device's layers, and the largest input and output of one
    operator among them) or energy (joules: power x tau, and the power of sending x epsilon).
    """

    kind: str
    use_NRM: FloatArray
    peak_NR: FloatArray
    sent_LM: FloatArray
    limit_M: FloatArray

    def budget(self, indices: Sequence[int]) -> ResourceBudget:
        """Make the budget of one architecture (candidate `indices[n]` at layer n)."""
        rows, columns = np.arange(len(indices)), list(indices)
        peak_NM = np.repeat(self.peak_NR[rows, columns][:, None], len(self.limit_M), axis=1)
        return ResourceBudget(self.use_NRM[rows, columns], peak_NM, self.sent_LM, self.limit_M)

    def maximum(self) -> ResourceBudget:
        """Make the budget of the candidates that use most, layer by layer and device by device."""
        peak_NM = np.repeat(self.peak_NR.max(axis=1)[:, None], len(self.limit_M), axis=1)
        return ResourceBudget(self.use_NRM.max(axis=1), peak_NM, self.sent_LM, self.limit_M)

    @property
    def binds(self) -> bool:
        """Whether any architecture under any split could exceed a limit of a device."""
        most_M = self.use_NRM.max(axis=1).sum(axis=0) + self.peak_NR.max() + self.sent_LM.max(axis=0)
        return bool((most_M > self.limit_M).any())


def device_resources(
    space: SearchSpace, devices: Sequence[Device], U_NRM: FloatArray, epsilon_LM: FloatArray
) -> tuple[Resource, ...]:
    """Compute memory use, and energy use where any device states its power (0 J for those that do not)."""
    weights_NR, peak_NR = np.zeros(U_NRM.shape[:2]), np.zeros(U_NRM.shape[:2])
    for n, (layer, choices) in enumerate(zip(space.layers, space.choices, strict=True)):
        for i, candidate in enumerate(choices):
            block = Block(candidate, layer)
            weights_NR[n, i] = _FLOAT32_BYTES * cost(block).parameters
            elements = [operator.read + operator.written for operator in operators(block)]
            peak_NR[n, i] = _FLOAT32_BYTES * max(elements, default=0)
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
