"""What a network costs over devices, and on what that rests: U(.), its own profile, or published figures.

U(.) speaks for blocks it knows, a profile for the network's own units, a roofline for a device that is not at
hand. Nothing is guessed: what nobody knows is refused with the command that measures it.
"""

from dataclasses import dataclass

import numpy as np

from jmsnas.cost import Operator
from jmsnas.device import Device
from jmsnas.errors import EstimatorError
from jmsnas.estimators.store import estimator_is_current, fit_estimator, load_estimator
from jmsnas.nas.costs import Costs
from jmsnas.nas.model import Model
from jmsnas.nas.model_profile import read_profile
from jmsnas.nas.split_links import Array
from jmsnas.network import INPUT_BYTES, Link
from jmsnas.profiler.parquet import read_table
from jmsnas.profiler.simulated import load_simulated, operators_s, serving_key, simulated_names
from jmsnas.progress import Progress, silent
from jmsnas.workspace import Workspace

_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Column:
    """Seconds of each unit on one device, with an interval, (N,) each, and what they rest on."""

    tau_N: Array
    low_N: Array
    high_N: Array
    basis: str
    simulated: bool = False


def model_costs(
    model: Model,
    devices: tuple[Device, ...],
    links: tuple[Link, ...],
    place: Workspace,
    jpeg_bytes: float | None = None,
    progress: Progress = silent,
) -> Costs:
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
    columns: dict[tuple[str, str], Column] = {}
    for n, device in enumerate(devices):
        progress(n, len(devices), f"costs on {device.name}")
        if (device.table, device.runtime) not in columns:
            columns[device.table, device.runtime] = _column(model, device, place)
    own = [columns[device.table, device.runtime] for device in devices]
    inputs: dict[str, float] = {
        name: float(size * model.input_elements) for name, size in INPUT_BYTES.items()
    }
    if jpeg_bytes is not None:
        inputs["jpeg"] = jpeg_bytes
    return Costs(
        network=model.name,
        units=tuple(unit.name for unit in model.units),
        devices=devices,
        tau_NM=np.stack([column.tau_N for column in own], axis=1),
        low_NM=np.stack([column.low_N for column in own], axis=1),
        high_NM=np.stack([column.high_N for column in own], axis=1),
        out_bytes_N=np.array([float(_FLOAT32_BYTES * unit.out_elements) for unit in model.units]),
        input_bytes=inputs,
        links=links,
        takes=tuple(unit.takes for unit in model.units),
        weight_bytes_N=np.array([float(_FLOAT32_BYTES * unit.parameters) for unit in model.units]),
        peak_bytes_N=np.array([_peak(unit.operators) for unit in model.units]),
        simulated=tuple(d.name for d, column in zip(devices, own, strict=True) if column.simulated),
        basis={d.name: column.basis for d, column in zip(devices, own, strict=True)},
    )


def _peak(operators: tuple[Operator, ...]) -> float:
    return float(_FLOAT32_BYTES * max((its.read + its.written for its in operators), default=0))


def _command(model: Model, device: Device) -> str:
    size = f" --size {model.input_shape[1]}" if model.input_shape[1:2] != (224,) else ""
    return f"jmsnas profile --model {model.name} --device {device.table}{size}"


def _column(model: Model, device: Device, place: Workspace) -> Column:
    runtimes = dict.fromkeys((device.runtime, "onnxruntime", "torch"))
    profiles = (read_profile(place, device.table, model, runtime) for runtime in runtimes)
    if profile := next((its for its in profiles if its), None):
        return Column(
            np.array(profile.median_s),
            np.array(profile.low_s),
            np.array(profile.high_s),
            f"measured: the network's own {model.N} units, {profile.runtime}, {profile.measured_at}",
        )
    table = place.table(device.table)
    measured = table.exists() and not read_table(table).simulated
    if measured and all(unit.block for unit in model.units):
        return _predicted(model, device, place)
    if device.table in simulated_names() and not measured:
        return _simulated(model, device)
    raise EstimatorError(
        f"nobody has measured {model.name} on {device.name}: expected a profile of its own units. Run, on "
        f"that machine: {_command(model, device)}"
    )


def _predicted(model: Model, device: Device, place: Workspace) -> Column:
    """Ask U(.), which must know every block: what lies outside all that was measured is refused."""
    table = read_table(place.table(device.table))
    key = serving_key(device.table, device.runtime, table.keys)
    folder = place.estimator(device.table, key.label)
    current = estimator_is_current(folder, table)
    estimator = load_estimator(folder) if current else fit_estimator(table, key, folder)
    blocks = [unit.block for unit in model.units if unit.block]
    outside = estimator.outside(blocks)
    unknown = [
        str(block) for block, out in zip(blocks, outside, strict=True) if out and block not in estimator.rows
    ]
    if unknown:
        raise EstimatorError(
            f"{len(unknown)} blocks of {model.name} lie outside all that was measured on {device.name}, as "
            f"{unknown[0]}. Run: {_command(model, device)}"
        )
    known = sum(block in estimator.rows for block in blocks)
    low_N, high_N = estimator.interval_s(blocks)
    basis = f"U(.): {known} blocks by their own rows, {len(blocks) - known} predicted"
    return Column(estimator.predict_s(blocks), low_N, high_N, basis)


def _simulated(model: Model, device: Device) -> Column:
    costs = load_simulated(device.table)
    unknown = {name for unit in model.units for name in unit.unknown}
    if unknown:
        raise EstimatorError(
            f"no figures of {', '.join(sorted(unknown))} are published for {device.name}: {model.name} "
            f"cannot be simulated there. Run, on that machine: {_command(model, device)}"
        )
    seconds = np.array(
        [
            operators_s(costs, device.runtime, unit.operators) if unit.operators else 0.0
            for unit in model.units
        ]
    )
    return Column(seconds, seconds, seconds, f"SIMULATED: roofline of {device.table}, {device.runtime}", True)
