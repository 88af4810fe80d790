"""What lies in the folder of an estimator, and which folders are of published tables. Loads no model."""

from pathlib import Path

from jmsnas.files import storage_error, write_atomic
from jmsnas.profiler.table.parquet import read_metadata
from jmsnas.workspace import Workspace, check_name

TABLE, FIT_RECORD, EVALUATION, CARD = "table.parquet", "recipe.json", "evaluation.json", "card.md"
# Drawn once it is fitted, by the command; what each shows.
PICTURES = {"predicted.png": "Predicted against measured", "geometries.png": "Errors by layer geometry"}


def is_published(folder: Path) -> bool:
    """Whether the estimator in a folder was fitted to a published table."""
    return (folder / FIT_RECORD).exists() and not read_metadata(folder / TABLE, "jmsnas.schema")


def write_card(folder: Path, card: str) -> None:
    """Write the card of an estimator fitted anew, take the last one's pictures away. Raises StorageError."""
    try:
        for name in PICTURES:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    write_atomic(folder / CARD, card.encode())


def embed_pictures(folder: Path) -> None:
    """Put the pictures that lie beside a card into it, before the model is told. Raises StorageError."""
    shown = "".join(f"![{what}]({name})\n\n" for name, what in PICTURES.items())
    card = (folder / CARD).read_text()
    write_atomic(folder / CARD, card.replace("## Model\n", f"{shown}## Model\n", 1).encode())


def estimator_folders(workspace: Workspace, device: str) -> tuple[Path, ...]:
    """Folders of a device's estimators, by the labels of their keys. Raises DeviceError for no such name."""
    every = (workspace.folder / "estimators" / check_name(device)).glob(f"*/{FIT_RECORD}")
    return tuple(sorted(found.parent for found in every))


def fitted_devices(workspace: Workspace) -> tuple[str, ...]:
    """Devices that have an estimator here."""
    return tuple(
        sorted(
            {found.parents[1].name for found in (workspace.folder / "estimators").glob(f"*/*/{FIT_RECORD}")}
        )
    )
