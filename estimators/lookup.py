"""What speaks for a device under one key: U(.), the rows it was fitted to, and whole networks."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jmsnas.errors import DeviceError, EstimatorError
from jmsnas.estimators.external import external_estimators, single_image_key
from jmsnas.estimators.networks.sum_correction import SumCorrection, table_correction
from jmsnas.estimators.published.estimator import load_published, published_layers, published_table
from jmsnas.estimators.store.current import current_estimator
from jmsnas.estimators.store.estimator import Estimator, load_estimator
from jmsnas.estimators.store.layout import TABLE, fitted_devices, is_published
from jmsnas.profiler.simulation.roofline import processor_of, simulated_device_names
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import read_table
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Layer
from jmsnas.workspace import Workspace


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """What speaks for a device under one key.

    Attributes
    ----------
    estimator
        U(.) of the key.
    table
        Rows of blocks and of whole parts, of that key alone.
    layers
        The geometries that U(.) was fitted to; more than the table's where others published their own blocks.
    correction
        From sums of blocks to whole networks; None where fewer than 3 were measured.
    setting
        What a published table says ran its blocks; empty for a table of ours.
    """

    estimator: Estimator
    table: LatencyTable
    layers: tuple[Layer, ...]
    correction: SumCorrection | None = None
    setting: str = ""


def find_device_model(
    workspace: Workspace,
    device: str,
    runtime: str | None = None,
    label: str | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> DeviceModel:
    """Load U(.) of a device, fitted anew (and kept) where it is missing or its table has moved on.

    A device that has an estimator and no table here, or a simulated one only, was fitted to a table from
    elsewhere: it speaks.

    Parameters
    ----------
    runtime, label
        Which key: all of its label, or its run time in 1 thread, batch 1, float32; without either the usual
        one, else the only one there is.

    Raises
    ------
    DeviceError
        For a device nobody knows.
    EstimatorError
        When it has neither table nor estimator here, none for the key, or no fit can be made.
    TableError
        When its table is damaged.
    StorageError
        When a new fit cannot be written.
    """
    path, wanted = workspace.table(device), label
    whole = read_table(path) if path.exists() else None
    alone = external_estimators(workspace, device, whole)
    if runtime and not label:
        usual = RuntimeKey(runtime, processor=processor_of(device)).label
        wanted = single_image_key(alone, usual) or usual
    if whole and (wanted not in alone if wanted else not alone):
        key = {key.label: key for key in whole.keys}[
            _chosen(device, [key.label for key in whole.keys], wanted)
        ]
        return device_model_of(
            current_estimator(workspace, device, whole, key, seed, progress), whole.for_key(key)
        )
    if not alone:
        raise _nothing_speaks_for(device, workspace)
    return load_device_model(alone[_chosen(device, list(alone), wanted)])


def load_device_model(folder: Path) -> DeviceModel:
    """Load U(.) as it lies in a folder, of a table of ours or a published one.

    Raises
    ------
    EstimatorError
        When it is missing, damaged, of another schema version, or its table is not the one it was fitted to.
    """
    if not is_published(folder):
        estimator = load_estimator(folder)
        return device_model_of(estimator, read_table(folder / TABLE).for_key(estimator.key))
    estimator, rows = load_published(folder)
    return DeviceModel(estimator, published_table(rows), published_layers(rows), setting=rows.setting)


def _chosen(device: str, labels: Sequence[str], wanted: str | None) -> str:
    """Find the key asked for; without one the usual, else the only one. Raises EstimatorError."""
    usual = RuntimeKey(processor=processor_of(device)).label
    found = wanted or (usual if usual in labels or len(labels) != 1 else labels[0])
    if found not in labels:
        have = " or ".join(labels) or "none"
        raise EstimatorError(f"{device} has no rows for {found}: expected {have}, with --key")
    return found


def device_model_of(estimator: Estimator, table: LatencyTable) -> DeviceModel:
    """Put U(.) of one key beside the rows of that key."""
    layers = tuple(dict.fromkeys(row.block.layer for row in table.rows))
    return DeviceModel(estimator, table, layers, table_correction(table))


def _nothing_speaks_for(device: str, workspace: Workspace) -> DeviceError | EstimatorError:
    known = sorted({"local", *simulated_device_names(), *workspace.tables, *fitted_devices(workspace)})
    if device not in known:
        near = [name for name in known if device in name] or difflib.get_close_matches(device, known) or known
        return DeviceError(f"unknown device {device!r}: expected {' or '.join(near)}")
    return EstimatorError(
        f"{device} has neither a table nor an estimator in {workspace.folder}. "
        f"Run: jmsnas profile --device {device}"
    )
