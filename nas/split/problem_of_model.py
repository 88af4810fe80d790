"""What a network costs over devices, and on what that rests: U(.), its own profile, or published figures.

What each device's seconds rest on is unit_latency.py's to say.
"""

from collections.abc import Sequence

import numpy as np

from jmsnas.cost import Operator
from jmsnas.device import Device
from jmsnas.nas.graph.model import Model
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.unit_latency import UnitLatency, unit_latency
from jmsnas.progress import Progress, no_progress
from jmsnas.topology import INPUT_BYTES, Link
from jmsnas.workspace import Workspace

_FLOAT32_BYTES = 4


def problem_of_model(
    model: Model,
    devices: tuple[Device, ...],
    links: tuple[Link, ...],
    workspace: Workspace,
    jpeg_bytes: float | None = None,
    progress: Progress = no_progress,
) -> SplitProblem:
    """Put together what a network costs.

    Parameters
    ----------
    devices, links
        In the order data meets them.
    place
        The workspace that holds tables, estimators and profiles.
    jpeg_bytes
        Bytes of an encoded image, where that is known.

    Raises
    ------
    EstimatorError
        Naming what nobody has measured and the command that does.
    """
    columns: dict[tuple[str, str], UnitLatency] = {}
    for n, device in enumerate(devices):
        progress(n, len(devices), f"costs on {device.name}")
        if (device.table, device.runtime) not in columns:
            columns[device.table, device.runtime] = unit_latency(model, device, workspace)
    own = [columns[device.table, device.runtime] for device in devices]
    inputs: dict[str, float] = {
        name: float(size * model.input_elements) for name, size in INPUT_BYTES.items()
    }
    if jpeg_bytes is not None:
        inputs["jpeg"] = jpeg_bytes
    return SplitProblem(
        network=model.name,
        units=tuple(unit.name for unit in model.units),
        devices=devices,
        tau_NM=np.stack([column.tau_N for column in own], axis=1),
        low_NM=np.stack([column.low_N for column in own], axis=1),
        high_NM=np.stack([column.high_N for column in own], axis=1),
        output_bytes_N=np.array([float(_FLOAT32_BYTES * unit.output_elements) for unit in model.units]),
        input_bytes=inputs,
        links=links,
        inputs=tuple(unit.inputs for unit in model.units),
        weight_bytes_N=np.array([float(_FLOAT32_BYTES * unit.parameters) for unit in model.units]),
        peak_bytes_N=np.array([_peak(unit.operators) for unit in model.units]),
        simulated=_of("simulated", devices, own),
        published=_of("published", devices, own),
        provenance={d.name: column.provenance for d, column in zip(devices, own, strict=True)},
    )


def _of(origin: str, devices: Sequence[Device], columns: Sequence[UnitLatency]) -> tuple[str, ...]:
    pairs = zip(devices, columns, strict=True)
    return tuple(device.name for device, column in pairs if column.origin == origin)


def _peak(operators: tuple[Operator, ...]) -> float:
    return float(_FLOAT32_BYTES * max((its.read + its.written for its in operators), default=0))
