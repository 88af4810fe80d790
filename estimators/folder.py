"""What lies in the folder of an estimator, and which folders are of published tables. Loads no model."""

from pathlib import Path

from jmsnas.profiler.parquet import metadata_of
from jmsnas.workspace import Workspace, check_name

TABLE, RECIPE, EVALUATION, CARD = "table.parquet", "recipe.json", "evaluation.json", "card.md"


def is_published(folder: Path) -> bool:
    """Whether the estimator in a folder was fitted to a published table."""
    return (folder / RECIPE).exists() and not metadata_of(folder / TABLE, "jmsnas.schema")


def estimator_folders(place: Workspace, device: str) -> tuple[Path, ...]:
    """Folders of a device's estimators, by the labels of their keys. Raises DeviceError for no such name."""
    every = (place.folder / "estimators" / check_name(device)).glob(f"*/{RECIPE}")
    return tuple(sorted(found.parent for found in every))


def fitted_devices(place: Workspace) -> tuple[str, ...]:
    """Devices that have an estimator here."""
    return tuple(
        sorted({found.parents[1].name for found in (place.folder / "estimators").glob(f"*/*/{RECIPE}")})
    )
