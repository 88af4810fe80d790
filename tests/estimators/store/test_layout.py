from pathlib import Path

import pytest
from synthetic_published import records, write_published

from jmsnas.errors import StorageError
from jmsnas.estimators.fit_tables import fit_tables
from jmsnas.estimators.store.layout import (
    PICTURES,
    embed_pictures,
    estimator_folders,
    fitted_devices,
    is_published,
    write_card,
)
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.table.parquet import write_table
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace


def test_a_card_shows_its_own_pictures(tmp_path: Path) -> None:
    write_card(tmp_path, "# A\n\n## Model\n\nroofline\n")
    for name in PICTURES:
        (tmp_path / name).write_text("")
    embed_pictures(tmp_path)
    assert (tmp_path / "card.md").read_text() == (
        "# A\n\n![Predicted against measured](predicted.png)\n\n![Errors by layer geometry](geometries.png)"
        "\n\n## Model\n\nroofline\n"
    )
    write_card(tmp_path, "# B\n")
    assert [path.name for path in tmp_path.iterdir()] == ["card.md"]


def test_a_picture_that_cannot_be_deleted_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "predicted.png").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        write_card(tmp_path, "# A\n")


def test_what_is_fitted_here_and_of_which_kind(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    assert fitted_devices(workspace) == estimator_folders(workspace, "pi4") == ()
    write_table(
        tmp_path / "a.parquet", simulated_table("pi4", load_space("digits").blocks()[::9], [RuntimeKey()])
    )
    tables = [tmp_path / "a.parquet", write_published(tmp_path / "b.parquet", records(9))]
    fit_tables(workspace, tables=tables)
    (workspace.folder / "estimators" / "empty" / "x").mkdir(parents=True)
    assert fitted_devices(workspace) == ("pi4", "some-board-cpu-2-threads")
    (own,), (board,) = (estimator_folders(workspace, name) for name in fitted_devices(workspace))
    assert own.name == RuntimeKey().label and is_published(board) and not is_published(own)
