"""U(.) of tables from elsewhere, published or ours: where one speaks for a device, and under which key."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from jmsnas.errors import EstimatorError
from jmsnas.estimators.store.fit_record import read_fit_record
from jmsnas.estimators.store.layout import FIT_RECORD, estimator_folders
from jmsnas.profiler.simulation.roofline import processor_of, simulated_device_names
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import read_table
from jmsnas.workspace import Workspace


def external_estimators(workspace: Workspace, device: str, table: LatencyTable | None) -> dict[str, Path]:
    """Give the estimators of a device that speak without a table here, by the labels of their keys.

    Parameters
    ----------
    table
        The device's own table in the workspace, if there is one. What was measured speaks for itself, so that
        there are none beside it; a simulated one gives way to an estimator that is not simulated.
    """
    if table and not table.simulated:
        return {}
    every = estimator_folders(workspace, device)
    return {folder.name: folder for folder in every if table is None or is_measured(folder)}


def is_measured(folder: Path) -> bool:
    """Whether a recipe lies there, and no row behind it is simulated."""
    with suppress(EstimatorError):
        return not read_fit_record(folder / FIT_RECORD, "").simulated
    return False


def single_image_key(labels: Collection[str], usual: str) -> str | None:
    """Find the key that answers for a network's device: the usual one, else the only one of its run time.

    What a published table was measured with (threads, a GPU) is part of its device's name, so that one device
    has one such key. None where there is none for single images, or several.
    """
    runtime = usual.partition("-")[0]
    found = [label for label in labels if label.startswith(f"{runtime}-t") and "-b1-" in label]
    return usual if usual in found else found[0] if len(found) == 1 else None


def external_folder(workspace: Workspace, device: str, runtime: str) -> Path | None:
    """Find the estimator that answers for a device of a network where no table of it is here.

    None where its own table speaks, or it is one to simulate: that gives every block its row.

    Raises
    ------
    EstimatorError
        When it has estimators and none of them for single images under the run time.
    TableError
        When its table is damaged.
    """
    path, built_in = workspace.table(device), device in simulated_device_names()
    table = read_table(path) if path.exists() else None
    alone = external_estimators(workspace, device, table)
    if built_in:
        alone = {label: folder for label, folder in alone.items() if is_measured(folder)}
    found = single_image_key(alone, RuntimeKey(runtime, processor=processor_of(device)).label)
    if found is None and alone and not (table or built_in):
        raise EstimatorError(
            f"{device} was fitted for {' and '.join(alone)}, the network asks for one image a call under "
            f'{runtime}: expected runtime = "{next(iter(alone)).partition("-")[0]}" beside it in the network '
            "file, or a device with such a table"
        )
    return alone[found] if found else None
