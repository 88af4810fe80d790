"""Split problem of a model: latency of each unit on each device, and sizes of outputs and weights.

Latencies are those of the model's own profile; else U(.) of the device's latency table, measured, simulated
or published, as in a search; else the roofline of a simulated device. Anything else is refused with the
command that measures it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray
from jmsnas.device import Device
from jmsnas.errors import EstimatorError, InputError
from jmsnas.estimators.lookup import DeviceModel, external_folder, serving_model
from jmsnas.estimators.prediction import extrapolated
from jmsnas.nas.graph.fork_join import find_fork_join
from jmsnas.nas.graph.model import Model, Unit, is_real
from jmsnas.nas.graph.unit_profile import profile_path, read_profile
from jmsnas.nas.split.general_topology import GeneralTopology
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.shared_weights import weights_of_units
from jmsnas.profiler.simulation.roofline import (
    cpu_name,
    load_simulated_device,
    operators_latency_s,
    processor_of,
    simulated_device_names,
)
from jmsnas.profiler.table.parquet import read_table
from jmsnas.progress import Progress, no_progress
from jmsnas.topology import Link
from jmsnas.workspace import Workspace

# A 90 % interval wider than this factor either way is too uncertain to compare plans.
_MAX_UNCERTAINTY = 1.5


def problem_of_model(
    model: Model,
    topology: GeneralTopology,
    workspace: Workspace,
    jpeg_bytes: float | None = None,
    progress: Progress = no_progress,
    extrapolate: bool = False,
) -> SplitProblem:
    """Make the split problem of a model over a topology, from the workspace's tables and profiles.

    `jpeg_bytes`: size of an encoded image, where known. `extrapolate`: predict blocks outside the training
    range of a measured device too, which are refused otherwise. Raises EstimatorError, naming what has not
    been measured, and the command that measures it.
    """
    devices, columns = topology.devices, dict[tuple[str, str], UnitLatency]()
    for n, device in enumerate(devices):
        progress(n, len(devices), f"latencies on {device.name}")
        if (device.table, device.runtime) not in columns:
            columns[device.table, device.runtime] = unit_latency(model, device, workspace, extrapolate)
    own = [columns[device.table, device.runtime] for device in devices]
    pairs = list(zip(devices, own, strict=True))
    weight_bytes_N, shared_weights = weights_of_units(
        [{tensor.name: tensor.size_bytes for tensor in unit.weights} for unit in model.units]
    )
    input_bytes = _input_bytes(model)
    return SplitProblem(
        model=model.name,
        units=tuple(unit.name for unit in model.units),
        devices=devices,
        tau_NM=np.stack([column.tau_N for column in own], axis=1),
        low_NM=np.stack([column.low_N for column in own], axis=1),
        high_NM=np.stack([column.high_N for column in own], axis=1),
        output_bytes_N=np.array([float(unit.output_bytes) for unit in model.units]),
        input_bytes=input_bytes if jpeg_bytes is None else {**input_bytes, "jpeg": jpeg_bytes},
        links=tuple(_link(model, link) for link in topology.links),
        inputs=tuple(unit.inputs for unit in model.units),
        weight_bytes_N=weight_bytes_N,
        peak_bytes_N=np.array([float(unit.peak_bytes) for unit in model.units]),
        simulated=tuple(d.name for d, column in pairs if column.origin == "simulated"),
        published=tuple(d.name for d, column in pairs if column.origin == "published"),
        extrapolated=tuple(d.name for d, column in pairs if column.extrapolated),
        provenance={d.name: column.provenance for d, column in pairs},
        tree=topology.tree,
        returns=topology.returns,
        shared_weights=shared_weights,
        batch=model.batch,
        join=_join(model),
    )


def _join(model: Model) -> str:
    """Find how parallel branches are joined, `sum` or `concat`; empty where there are none."""
    fork = find_fork_join([unit.inputs for unit in model.units])
    if not fork:
        return ""
    unit = model.units[fork.tail.start]
    first = None if unit.block else next(iter(unit.operators), None)
    return "concat" if first and first.written >= first.read else "sum"


@dataclass(frozen=True, slots=True)
class UnitLatency:
    """Seconds of each unit on one device, with an interval, (N,) each, and where they come from.

    `provenance` is a summary for people, `origin` one of `jmsnas.origin.ORIGINS`; `extrapolated` whether any
    unit is outside the training range of U(.).
    """

    tau_N: FloatArray
    low_N: FloatArray
    high_N: FloatArray
    provenance: str
    origin: str = "measured"
    extrapolated: bool = False


def _input_bytes(model: Model) -> dict[str, float]:
    """Bytes of the raw input in the encodings it may be sent in: that of the model last.

    A model of real numbers may be sent 8-bit pixels, and convert them.
    """
    own = model.raw_input
    pixels = {"uint8": float(own.elements)} if is_real(model.input_dtype) else {}
    return {**pixels, model.input_dtype: float(own.size_bytes)}


def _link(model: Model, link: Link) -> Link:
    """Return the link, as one of float32 where outputs have its dtype already. Raises InputError."""
    dtypes = sorted({tensor.dtype for unit in model.units for tensor in unit.outputs})
    if dtypes == ["float32"] or link.wire == "float32":
        return link
    if dtypes == [link.wire]:
        return replace(link, wire="float32")
    raise InputError(
        f"link {link.source} -> {link.target} sends float32 as {link.wire}, but {model.name} has outputs of "
        f'{", ".join(dtypes)}: expected wire = "float32", which sends each as it is'
    )


def unit_latency(
    model: Model, device: Device, workspace: Workspace, extrapolate: bool = False
) -> UnitLatency:
    """Predict or look up the latency of each unit of a model on a device.

    U(.) predicts blocks as in a search; the roofline of a simulated device is used for blocks outside its
    table, and for units that are not blocks. Raises EstimatorError, naming what has not been measured, and
    the command that measures it.
    """
    runtimes = dict.fromkeys((device.runtime, "onnxruntime", "torch"))
    profiles = (read_profile(workspace, device.table, model, runtime) for runtime in runtimes)
    if profile := next((found for found in profiles if found), None):
        if processor_of(device.table) != "cpu":
            path = profile_path(workspace, device.table, model, profile.runtime)
            raise EstimatorError(
                f"{path} is of a CPU, while {device.table} is the name of a GPU: it is not used. Run, on "
                f"that machine: {_command(model, device)}; or delete the file, to simulate the GPU"
            )
        return UnitLatency(
            np.array(profile.median_s),
            np.array(profile.low_s),
            np.array(profile.high_s),
            f"measured: the model's own {model.N} units, {profile.runtime}, {profile.measured_at}",
        )
    if all(unit.block for unit in model.units) and (
        estimator := serving_model(workspace, device.table, device.runtime)
    ):
        return _predicted(model, device, estimator, extrapolate)
    external, path = external_folder(workspace, device.table, device.runtime), workspace.table(device.table)
    has_figures = device.table in simulated_device_names() and not external
    if has_figures and (not path.exists() or read_table(path).simulated):
        seconds = _roofline(model, device, model.units)
        other = {tensor.dtype for unit in model.units for tensor in unit.outputs} - {"float32"}
        figures = f", by its figures of float32 ({', '.join(sorted(other))} in the model)" if other else ""
        provenance = f"SIMULATED: roofline of {device.table}, {device.runtime}{figures}"
        return UnitLatency(seconds, seconds, seconds, provenance, "simulated")
    raise EstimatorError(
        f"{model.name} has not been measured on {device.name}: expected a profile of its own units. Run, on "
        f"that machine: {_command(model, device)}"
    )


def _command(model: Model, device: Device) -> str:
    fixed = model.name.endswith(".onnx") or model.input_shape[1:] == (224, 224)
    size = "" if fixed else f" --size {model.input_shape[1]}"
    name = cpu_name(device.table)
    command = f"jmsnas profile --model {model.name} --device {name}{size}"
    return command if name == device.table else f"{command}, and name {name} in the topology"


def _predicted(model: Model, device: Device, device_model: DeviceModel, extrapolate: bool) -> UnitLatency:
    """Predict the blocks of a model by U(.), and refuse blocks outside the training range.

    On a simulated device such a block has its roofline. On a published table, which cannot be measured
    further, its interval is wider, and it is refused where the interval is too wide.
    """
    estimator, blocks = device_model.estimator, [unit.block for unit in model.units if unit.block]
    origin, far_N = estimator.origin, extrapolated(device_model, blocks)
    tau_N, (low_N, high_N) = estimator.predict_s(blocks), estimator.interval_s(blocks)
    uncertain_N = far_N & (high_N > _MAX_UNCERTAINTY**2 * low_N)
    if not extrapolate:
        _refuse_unknown_blocks(model, device, origin, uncertain_N if origin == "published" else far_N)
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
    by_others = f"{origin} by others: {device_model.setting or device.table}; "
    provenance = {"measured": "", "simulated": "SIMULATED: "}.get(origin, by_others)
    provenance += f"U(.): {known} blocks by their own rows, {others} predicted{beyond}"
    guessed = bool(origin != "simulated" and far_N.any())
    return UnitLatency(tau_N, low_N, high_N, provenance, origin, guessed)


def _refuse_unknown_blocks(model: Model, device: Device, origin: str, unknown_N: BoolArray) -> None:
    if origin == "simulated" or not unknown_N.any():
        return
    published = origin == "published"
    factor = (
        f", with an uncertainty of more than a factor {_MAX_UNCERTAINTY:g} either way" if published else ""
    )
    raise EstimatorError(
        f"{unknown_N.sum()} blocks of {model.name} are outside the training range of {device.name}{factor}, "
        f"as {model.units[int(unknown_N.argmax())].block}. Run{', on that machine' * published}: "
        f"{_command(model, device)}"
    )


def _roofline(model: Model, device: Device, units: Sequence[Unit]) -> FloatArray:
    """Seconds by published figures; a unit without operators takes the bare call as a block, else nothing."""
    simulated = load_simulated_device(device.table)
    unknown = {name for unit in units for name in unit.unknown}
    if unknown:
        raise EstimatorError(
            f"no figures of {', '.join(sorted(unknown))} are published for {device.name}: {model.name} "
            f"cannot be simulated there. Run, on that machine: {_command(model, device)}"
        )
    return np.array(
        [
            operators_latency_s(simulated, device.runtime, unit.operators)
            if unit.operators or unit.block
            else 0.0
            for unit in units
        ]
    )
