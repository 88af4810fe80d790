"""How long the units of a network take on one device, and on what that rests.

U(.) speaks for the blocks of a device that has a table, its own or one of others, a profile for a network's
own units, a roofline for what is not at hand. Nothing is guessed: what nobody knows is refused with the
command that measures it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.device import Device
from jmsnas.errors import EstimatorError
from jmsnas.estimators.external import external_folder
from jmsnas.estimators.lookup import DeviceModel, device_model_of, load_device_model
from jmsnas.estimators.prediction import extrapolated
from jmsnas.estimators.store.current import current_estimator
from jmsnas.nas.graph.model import Model, Unit
from jmsnas.nas.graph.unit_profile import read_profile
from jmsnas.nas.split.links import Array
from jmsnas.profiler.simulation.roofline import (
    load_simulated_device,
    operators_latency_s,
    serving_key,
    simulated_device_names,
)
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.profiler.table.parquet import read_table
from jmsnas.workspace import Workspace

# A 90 % interval that reaches so far, as a factor either way, tells no plan from another.
_VAGUE = 1.5


@dataclass(frozen=True, slots=True)
class UnitLatency:
    """Seconds of each unit on one device, with an interval, (N,) each, and what they rest on.

    `basis` says it in words, `origin` in one (`jmsnas.origin`).
    """

    tau_N: Array
    low_N: Array
    high_N: Array
    provenance: str
    origin: str = "measured"


def unit_latency(model: Model, device: Device, workspace: Workspace) -> UnitLatency:
    """Say how long each unit takes on a device.

    Where the device has a table, measured or simulated, or others published one, U(.) speaks for blocks as it
    does in a search; a simulated device's roofline for the blocks that lie outside its table, and for units
    that are no blocks.

    Raises
    ------
    EstimatorError
        Naming what nobody has measured and the command that does.
    """
    runtimes = dict.fromkeys((device.runtime, "onnxruntime", "torch"))
    profiles = (read_profile(workspace, device.table, model, runtime) for runtime in runtimes)
    if profile := next((its for its in profiles if its), None):
        return UnitLatency(
            np.array(profile.median_s),
            np.array(profile.low_s),
            np.array(profile.high_s),
            f"measured: the network's own {model.N} units, {profile.runtime}, {profile.measured_at}",
        )
    elsewhere, path = external_folder(workspace, device.table, device.runtime), workspace.table(device.table)
    table = read_table(path) if path.exists() else None
    if all(unit.block for unit in model.units):
        basis = load_device_model(elsewhere) if elsewhere else _own(device, workspace, table)
        if basis:
            return _predicted(model, device, basis)
    if device.table in simulated_device_names() and not elsewhere and (table is None or table.simulated):
        seconds = _roofline(model, device, model.units)
        said = f"SIMULATED: roofline of {device.table}, {device.runtime}"
        return UnitLatency(seconds, seconds, seconds, said, "simulated")
    raise EstimatorError(
        f"nobody has measured {model.name} on {device.name}: expected a profile of its own units. Run, on "
        f"that machine: {_command(model, device)}"
    )


def _command(model: Model, device: Device) -> str:
    size = f" --size {model.input_shape[1]}" if model.input_shape[1:2] != (224,) else ""
    return f"jmsnas profile --model {model.name} --device {device.table}{size}"


def _own(device: Device, workspace: Workspace, table: LatencyTable | None) -> DeviceModel | None:
    """U(.) of a device's own table; None without one, and where a simulated one has no rows to ask for."""
    if table is None:
        return None
    key = serving_key(device.table, device.runtime, table.keys)
    if table.simulated and key not in table.keys:
        return None
    return device_model_of(current_estimator(workspace, device.table, table, key), table.for_key(key))


def _predicted(model: Model, device: Device, basis: DeviceModel) -> UnitLatency:
    """Ask U(.): a block outside all that was measured is refused.

    A simulated table's roofline knows such a block. A published table cannot be added to: there an interval
    widens, and is refused where it says nothing.
    """
    estimator, blocks = basis.estimator, [unit.block for unit in model.units if unit.block]
    origin, far_N = estimator.origin, extrapolated(basis, blocks)
    tau_N, (low_N, high_N) = estimator.predict_s(blocks), estimator.interval_s(blocks)
    _refuse(model, device, origin, far_N & (high_N > _VAGUE**2 * low_N) if origin == "published" else far_N)
    known = sum(block in estimator.rows for block in blocks)
    others = len(blocks) - known
    beyond = ""
    if origin == "simulated" and far_N.any():
        units = [unit for unit, far in zip(model.units, far_N, strict=True) if far]
        tau_N[far_N] = low_N[far_N] = high_N[far_N] = _roofline(model, device, units)
        others -= len(units)
        beyond = f", {len(units)} by the roofline"
    elif far_N.any():
        beyond = f", {far_N.sum()} of them beyond its table by wider intervals"
    by_others = f"{origin} by others: {basis.setting or device.table}; "
    said = {"measured": "", "simulated": "SIMULATED: "}.get(origin, by_others)
    said += f"U(.): {known} blocks by their own rows, {others} predicted{beyond}"
    return UnitLatency(tau_N, low_N, high_N, said, origin)


def _refuse(model: Model, device: Device, origin: str, unknown_N: NDArray[np.bool_]) -> None:
    if origin == "simulated" or not unknown_N.any():
        return
    published = origin == "published"
    how = f", by more than a factor {_VAGUE:g} either way in doubt" if published else ""
    raise EstimatorError(
        f"{unknown_N.sum()} blocks of {model.name} lie outside all that was measured on {device.name}{how}, "
        f"as {model.units[int(unknown_N.argmax())].block}. Run{', on that machine' * published}: "
        f"{_command(model, device)}"
    )


def _roofline(model: Model, device: Device, units: "tuple[Unit, ...] | list[Unit]") -> Array:
    """Seconds by published figures; what launches nothing costs the bare call as a block, else nothing."""
    costs = load_simulated_device(device.table)
    unknown = {name for unit in units for name in unit.unknown}
    if unknown:
        raise EstimatorError(
            f"no figures of {', '.join(sorted(unknown))} are published for {device.name}: {model.name} "
            f"cannot be simulated there. Run, on that machine: {_command(model, device)}"
        )
    return np.array(
        [
            operators_latency_s(costs, device.runtime, unit.operators)
            if unit.operators or unit.block
            else 0.0
            for unit in units
        ]
    )
