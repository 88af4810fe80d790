"""From a workspace to what a search rests on: U(.) of every device of a network, and the filled array."""

import warnings
from collections.abc import Callable

import numpy as np

from jmsnas.device import Device
from jmsnas.errors import EstimatorError
from jmsnas.estimators.lookup import DeviceModel, current_estimator, external_folder, load_device_model
from jmsnas.estimators.prediction import extrapolated
from jmsnas.estimators.store.estimator import Estimator
from jmsnas.profiler.profile import ProfileOptions, profile_device
from jmsnas.profiler.simulation.roofline import processor_of, serving_key, simulated_device_names
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import read_table
from jmsnas.progress import Progress, no_progress
from jmsnas.space import SearchSpace
from jmsnas.topology import Topology
from jmsnas.workspace import Workspace


def load_estimators(
    topology: Topology,
    space: SearchSpace,
    workspace: Workspace,
    seed: int = 0,
    progress: Progress = no_progress,
    warn: Callable[[str], None] = warnings.warn,
) -> dict[str, Estimator]:
    """Load U(.) of every device of a network, fitted anew where its table has moved on.

    An estimator of a published table speaks for its device, which is told. A built-in device that nobody has
    profiled is simulated (its table is written, and says so).

    Returns
    -------
    Estimators by the devices' names in the network. Raises EstimatorError naming the command to run.
    """
    estimators: dict[str, Estimator] = {}
    for m, device in enumerate(topology.devices):
        progress(m, topology.M, f"U(.) of {device.name}")
        if folder := external_folder(workspace, device.table, device.runtime):
            basis = load_device_model(folder)
            warn(_words(device, basis, space))
            estimators[device.name] = basis.estimator
            continue
        key = RuntimeKey(device.runtime, processor=processor_of(device.table))
        table = _table(device, key, space, workspace, warn)
        key = serving_key(device.table, device.runtime, table.keys)
        estimators[device.name] = current_estimator(workspace, device.table, table, key, seed)
    progress(topology.M, topology.M, "U(.) of every device")
    return estimators


def _table(
    device: Device, key: RuntimeKey, space: SearchSpace, workspace: Workspace, warn: Callable[[str], None]
) -> LatencyTable:
    path, blocks = workspace.table(device.table), space.blocks()
    table = read_table(path) if path.exists() else None
    have = {row.block for row in table.rows if row.key == key} if table else set()
    if table and (not table.simulated or set(blocks) <= have):
        return table
    if device.table not in simulated_device_names():
        raise EstimatorError(
            f"device {device.name} has no latency table {path}. Run: jmsnas profile --device {device.table}, "
            "or fit one that others published: jmsnas fit-estimator --table FILE"
        )
    return profile_device(device.table, blocks, [key], workspace, ProfileOptions(warn=warn)).table


def _words(device: Device, basis: DeviceModel, space: SearchSpace) -> str:
    """Say what stands in for a measurement here, and how much of the space it never saw the like of."""
    estimator, blocks, judged = basis.estimator, space.blocks(), basis.estimator.evaluation
    said = (
        f"{estimator.origin.upper()}: {device.name} was not measured here; U(.) of "
        f"{basis.setting or device.table} speaks, fitted to {judged.rows} rows, {judged.model.mape:.1%} off "
        "on geometries it never saw"
    )
    beyond = [block for block, far in zip(blocks, extrapolated(basis, blocks), strict=True) if far]
    if not beyond:
        return said
    low_s, high_s = estimator.interval_s(beyond)
    return (
        f"{said}. {len(beyond)} of {len(blocks)} blocks of space {space.name} lie outside all it was fitted "
        f"to, as {beyond[0]}: extrapolated, the widest 90 % interval a factor "
        f"{float(np.sqrt(high_s / low_s).max()):.2g} either way"
    )
