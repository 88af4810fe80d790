"""File names in an estimator's folder, and the estimator folders of a workspace; loads no model."""

from pathlib import Path

from jmsnas.files import storage_error, write_atomic
from jmsnas.profiler.table.parquet import read_metadata
from jmsnas.workspace import Workspace, check_name

TABLE, FIT_RECORD, EVALUATION, CARD = "table.parquet", "recipe.json", "evaluation.json", "card.md"
# Plots that the command line draws after a fit, with their titles.
PICTURES = {"predicted.png": "Predicted against measured", "geometries.png": "Errors by layer geometry"}


def is_published(folder: Path) -> bool:
    """Whether the estimator in a folder was fitted to a published table."""
    return (folder / FIT_RECORD).exists() and not read_metadata(folder / TABLE, "jmsnas.schema")


def write_card(folder: Path, card: str) -> None:
    """Write the card of a new fit and delete the plots of the last one; raises StorageError."""
    try:
        for name in PICTURES:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    write_atomic(folder / CARD, card.encode())


def embed_pictures(folder: Path) -> None:
    """Embed the plots in a folder in its model card, before the section Model; raises StorageError."""
    images = "".join(f"![{title}]({name})\n\n" for name, title in PICTURES.items())
    card = (folder / CARD).read_text()
    write_atomic(folder / CARD, card.replace("## Model\n", f"{images}## Model\n", 1).encode())


def estimator_folders(workspace: Workspace, device: str) -> tuple[Path, ...]:
    """List the folders of a device's estimators, named by key labels; raises DeviceError for a bad name."""
    records = (workspace.folder / "estimators" / check_name(device)).glob(f"*/{FIT_RECORD}")
    return tuple(sorted(record.parent for record in records))


def fitted_devices(workspace: Workspace) -> tuple[str, ...]:
    """List the devices that have an estimator in a workspace."""
    records = (workspace.folder / "estimators").glob(f"*/*/{FIT_RECORD}")
    return tuple(sorted({record.parents[1].name for record in records}))
