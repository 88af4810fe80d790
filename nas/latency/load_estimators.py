"""Load the estimator U(.) of every device of a topology from a workspace."""

import warnings
from collections.abc import Callable

import numpy as np

from jmsnas.device import Device
from jmsnas.errors import EstimatorError
from jmsnas.estimators.lookup import DeviceModel, external_folder, serving_model
from jmsnas.estimators.prediction import extrapolated
from jmsnas.estimators.store.estimator import Estimator
from jmsnas.profiler.profile import ProfileOptions, profile_device
from jmsnas.profiler.simulation.roofline import processor_of, simulated_device_names
from jmsnas.profiler.table.latency_table import RuntimeKey
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
    """Load U(.) of every device of a topology; fit it again where its latency table has changed.

    Warns where U(.) was fitted to a table published by others. A built-in device without a latency table is
    simulated: its table is written and marked as simulated. Raises EstimatorError naming the command to run.
    """
    estimators: dict[str, Estimator] = {}
    for m, device in enumerate(topology.devices):
        progress(m, topology.M, f"U(.) of {device.name}")
        external = external_folder(workspace, device.table, device.runtime)
        if not external:
            _complete_table(device, space, workspace, warn)
        model = serving_model(workspace, device.table, device.runtime, seed)
        assert model  # the device has an external estimator, or a table with its key
        if external:
            warn(_published_warning(device, model, space))
        estimators[device.name] = model.estimator
    progress(topology.M, topology.M, "U(.) of every device")
    return estimators


def _complete_table(
    device: Device, space: SearchSpace, workspace: Workspace, warn: Callable[[str], None]
) -> None:
    """Simulate the blocks that a built-in device has no row of, unless its table is measured."""
    key = RuntimeKey(device.runtime, processor=processor_of(device.table))
    path, blocks = workspace.table(device.table), space.blocks()
    table = read_table(path) if path.exists() else None
    measured = {row.block for row in table.rows if row.key == key} if table else set()
    if table and (not table.simulated or set(blocks) <= measured):
        return
    if device.table not in simulated_device_names():
        raise EstimatorError(
            f"device {device.name} has no latency table {path}. Run: jmsnas profile --device {device.table}, "
            "or fit a table published by others: jmsnas fit-estimator --table FILE"
        )
    profile_device(device.table, blocks, [key], workspace, ProfileOptions(warn=warn))


def _published_warning(device: Device, model: DeviceModel, space: SearchSpace) -> str:
    """Describe an estimator of a published table: its error, and the blocks of the space it extrapolates."""
    estimator, blocks, evaluation = model.estimator, space.blocks(), model.estimator.evaluation
    text = (
        f"{estimator.origin.upper()}: {device.name} was not measured here; U(.) of "
        f"{model.setting or device.table} is used, fitted to {evaluation.rows} rows, MAPE "
        f"{evaluation.model.mape:.1%} on held-out geometries"
    )
    beyond = [block for block, far in zip(blocks, extrapolated(model, blocks), strict=True) if far]
    if not beyond:
        return text
    low_s, high_s = estimator.interval_s(beyond)
    return (
        f"{text}. {len(beyond)} of {len(blocks)} blocks of space {space.name} are outside the range of these "
        f"rows, such as {beyond[0]}: extrapolated, with a 90 % interval of up to a factor of "
        f"{float(np.sqrt(high_s / low_s).max()):.2g} each way"
    )
