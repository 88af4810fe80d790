"""Find the latency estimator of a device: fitted to its own table, or to a table from elsewhere.

Search, split, compare, deploy and predict all use this module, so that they predict the same seconds of the
same block.
"""

import difflib
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jmsnas.errors import DeviceError, EstimatorError
from jmsnas.estimators.networks.sum_correction import SumCorrection, table_correction
from jmsnas.estimators.published.estimator import load_published, published_layers, published_table
from jmsnas.estimators.store.estimator import Estimator, estimator_is_current, fit_estimator, load_estimator
from jmsnas.estimators.store.fit_record import read_fit_record
from jmsnas.estimators.store.layout import FIT_RECORD, TABLE, estimator_folders, fitted_devices, is_published
from jmsnas.profiler.simulation.roofline import (
    cpu_name,
    load_simulated_device,
    processor_of,
    serving_key,
    simulated_device_names,
)
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import read_table
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Layer
from jmsnas.workspace import Workspace


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """Latency estimator of a device under one key, with the rows that it was fitted to.

    Attributes
    ----------
    estimator
        U(.) of the key.
    table
        Rows of blocks and of parts, of that key alone.
    layers
        Layer geometries that U(.) was fitted to; of a published table more than those in `table`.
    correction
        Correction from sums of blocks to whole models; None where fewer than 3 were measured.
    setting
        Setting that a published table gives; empty for other tables.
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
    """Load U(.) of a device, and fit and save it first where it is missing or older than its table.

    For a device without a table in the workspace, or with a simulated one only, an estimator fitted to a
    table from elsewhere is used. Raises DeviceError for an unknown device; EstimatorError when it has neither
    table nor estimator, none for the key, or cannot be fitted; TableError when its table is damaged;
    StorageError when a new fit cannot be written.

    Parameters
    ----------
    runtime, label
        Key to use: its label, or its runtime with 1 thread, batch 1, float32; without either the default
        key, else the only one there is.
    """
    wanted, table = label, read_own_table(workspace, device)
    external = external_estimators(workspace, device, table)
    if runtime and not label:
        default = RuntimeKey(runtime, processor=processor_of(device)).label
        wanted = single_image_key(external, default) or default
    if table and (wanted not in external if wanted else not external):
        keys = {key.label: key for key in table.keys if _is_own(device, key)}
        key = keys[_choose_label(device, list(keys), wanted)]
        estimator = current_estimator(workspace, device, table, key, seed, progress)
        return device_model_of(estimator, table.for_key(key))
    if not external:
        raise _no_estimator(device, workspace)
    return load_device_model(external[_choose_label(device, list(external), wanted)])


def read_own_table(workspace: Workspace, device: str) -> LatencyTable | None:
    """Read the latency table of a device; None where it has none.

    Raises EstimatorError where it was measured on a CPU under the name of a GPU, with the commands that
    measure either; TableError for a damaged table.
    """
    path = workspace.table(device)
    table = read_table(path) if path.exists() else None
    if table and (fault := cpu_rows_of_gpu(device, table)):
        raise EstimatorError(fault)
    return table


def cpu_rows_of_gpu(device: str, table: LatencyTable) -> str:
    """Describe a table that was measured on a CPU under the name of a GPU; empty for any other table."""
    if table.simulated or not table.keys or any(_is_own(device, key) for key in table.keys):
        return ""
    gpu, labels = load_simulated_device(device).description, ", ".join(key.label for key in table.keys)
    return (
        f"the rows of {device} are of a CPU ({labels}), while its name is that of a GPU ({gpu}): they are "
        f"not used. On that machine, run jmsnas profile --device {device}; for its CPU jmsnas profile "
        f"--device {cpu_name(device)}, with that name in the topology; or delete tables/{device}.parquet, to "
        "simulate the GPU"
    )


def _is_own(device: str, key: RuntimeKey) -> bool:
    """Whether a key is of the processor that the name of a device stands for."""
    return processor_of(device) == "cpu" or key.processor != "cpu"


def load_device_model(folder: Path) -> DeviceModel:
    """Load U(.) from a folder, fitted to a table of our profiler or to a published one.

    Raises EstimatorError when it is missing, damaged, of another schema version, or its table is not the one
    it was fitted to.
    """
    if not is_published(folder):
        estimator = load_estimator(folder)
        return device_model_of(estimator, read_table(folder / TABLE).for_key(estimator.key))
    estimator, rows = load_published(folder)
    return DeviceModel(estimator, published_table(rows), published_layers(rows), setting=str(rows.origin))


def device_model_of(estimator: Estimator, table: LatencyTable) -> DeviceModel:
    """Make the device model of an estimator and the rows of its key."""
    layers = tuple(dict.fromkeys(row.block.layer for row in table.rows))
    return DeviceModel(estimator, table, layers, table_correction(table))


def current_estimator(
    workspace: Workspace,
    device: str,
    table: LatencyTable,
    key: RuntimeKey,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Estimator:
    """Load U(.) of a device under a key, and fit and save it first where its table has changed.

    `table` is the device's present table, `seed` that of a new fit. Raises as `fit_estimator`.
    """
    folder = workspace.estimator(device, key.label)
    if estimator_is_current(folder, table):
        return load_estimator(folder)
    return fit_estimator(table, key, folder, seed, progress)


def external_estimators(workspace: Workspace, device: str, table: LatencyTable | None) -> dict[str, Path]:
    """List the folders of a device's estimators that are used in place of its own table, by key label.

    A measured table is always used itself; a simulated one is replaced by estimators that are not simulated.
    """
    if table and not table.simulated:
        return {}
    folders = estimator_folders(workspace, device)
    return {folder.name: folder for folder in folders if table is None or is_measured(folder)}


def is_measured(folder: Path) -> bool:
    """Whether a folder has an estimator without simulated rows."""
    with suppress(EstimatorError):
        return not read_fit_record(folder / FIT_RECORD, "").simulated
    return False


def single_image_key(labels: Collection[str], default: str) -> str | None:
    """Choose the key label for single images: the default one, else the only one of its runtime.

    The settings of a published table (threads, a GPU) are part of its device name, so that such a device has
    one key. None where no key, or more than one, is for single images.
    """
    runtime = default.partition("-")[0]
    found = [label for label in labels if label.startswith(f"{runtime}-t") and "-b1-" in label]
    return default if default in found else found[0] if len(found) == 1 else None


def external_folder(workspace: Workspace, device: str, runtime: str) -> Path | None:
    """Find the external estimator of a topology's device, for single images under a runtime.

    None where its own table is used, or it is a simulated device, which has a row of every block. Raises
    EstimatorError when it has estimators, but none for single images under the runtime; TableError when its
    table is damaged.
    """
    built_in, table = device in simulated_device_names(), read_own_table(workspace, device)
    external = external_estimators(workspace, device, table)
    if built_in:
        external = {label: folder for label, folder in external.items() if is_measured(folder)}
    found = single_image_key(external, RuntimeKey(runtime, processor=processor_of(device)).label)
    if found is None and external and not (table or built_in):
        raise EstimatorError(
            f"{device} was fitted for {' and '.join(external)}, the topology needs one image per call under "
            f'{runtime}: expected runtime = "{next(iter(external)).partition("-")[0]}" in the topology '
            "file, or a device with such a table"
        )
    return external[found] if found else None


def serving_model(
    workspace: Workspace, device: str, runtime: str, seed: int = 0, refit: bool = True
) -> DeviceModel | None:
    """Load U(.) of a topology's device: its external estimator, else that of its own table.

    Without `refit` the estimator in the workspace is loaded, even if it is older than the table.

    Returns
    -------
    None for a device without a table, or with a simulated one without rows of its key.

    Raises
    ------
    EstimatorError, TableError, StorageError
        As `external_folder`, `load_device_model` and `current_estimator`.
    """
    if folder := external_folder(workspace, device, runtime):
        return load_device_model(folder)
    table = read_own_table(workspace, device)
    key = serving_key(device, runtime, table.keys if table else ())
    if not refit:
        return load_device_model(workspace.estimator(device, key.label))
    if table is None or (table.simulated and key not in table.keys):
        return None
    return device_model_of(current_estimator(workspace, device, table, key, seed), table.for_key(key))


def _choose_label(device: str, labels: Sequence[str], wanted: str | None) -> str:
    """Choose the wanted key label, else the default, else the only one; raises EstimatorError."""
    default = RuntimeKey(processor=processor_of(device)).label
    found = wanted or (default if default in labels or len(labels) != 1 else labels[0])
    if found not in labels:
        known = " or ".join(labels) or "none"
        raise EstimatorError(f"{device} has no rows for {found}: expected {known}, with --key")
    return found


def _no_estimator(device: str, workspace: Workspace) -> DeviceError | EstimatorError:
    known = sorted({"local", *simulated_device_names(), *workspace.tables, *fitted_devices(workspace)})
    if device not in known:
        near = [name for name in known if device in name] or difflib.get_close_matches(device, known) or known
        return DeviceError(f"unknown device {device!r}: expected {' or '.join(near)}")
    return EstimatorError(
        f"{device} has neither a table nor an estimator in {workspace.folder}. "
        f"Run: jmsnas profile --device {device}"
    )
