from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jmsnas.errors import StorageError, TableError
from jmsnas.profiler.journal import append_record, journal_path
from jmsnas.profiler.parquet import read_table, row_record
from jmsnas.profiler.sweep import profile
from jmsnas.profiler.table import Key, LatencyTable
from jmsnas.space import IDENTITY, Block, Candidate, Layer

BLOCKS = tuple(
    Block(candidate, layer)
    for layer in (Layer(8, 8, 1, 4, 4), Layer(8, 8, 1, 2, 2))
    for candidate in (Candidate(3, 3, True), Candidate(5, 3), IDENTITY)
)
EAGER = Key("torch")
QUICK = {"budget_s": 0.05}


def measured(folder: Path, blocks: tuple[Block, ...] = BLOCKS) -> LatencyTable:
    return profile("local", blocks, [EAGER], folder / "local.parquet", cache=folder / "cache", **QUICK)


def test_rows_of_a_key_share_a_level(tmp_path: Path) -> None:
    measured(tmp_path, BLOCKS[:2])
    table = measured(tmp_path)
    levels = {row.reference_s for row in table.rows}
    shared = table.rows[0].median_s / table.rows[0].ratio
    assert len(levels) >= 2 and min(levels) <= shared <= max(levels)
    assert all(row.median_s == pytest.approx(row.ratio * shared) for row in table.rows)
    assert all(row.min_s == pytest.approx(min(row.samples) * shared) for row in table.rows)


def test_journal_is_folded_first(tmp_path: Path) -> None:
    # What a killed process leaves: the table without a row, the row in the journal.
    table = measured(tmp_path)
    path = tmp_path / "local.parquet"
    path.unlink()
    (environment,) = table.environments.values()
    append_record(journal_path(path), {"schema": 1, "device": "local", "environment": environment})
    for row in table.rows:
        append_record(journal_path(path), {"row": row_record(row)})
    with journal_path(path).open("ab") as file:
        file.write(b"00000000 {torn")
    assert measured(tmp_path) == table
    assert read_table(path) == table and not journal_path(path).exists()


def test_damage_in_the_middle_of_a_journal_is_told(tmp_path: Path) -> None:
    waiting = journal_path(tmp_path / "local.parquet")
    append_record(waiting, {"schema": 1, "device": "local", "environment": {}})
    waiting.write_bytes(waiting.read_bytes() + b"nonsense\nnonsense\n")
    with pytest.warns(UserWarning, match="line 2 of .*journal is damaged: the 1 lines before it are kept"):
        measured(tmp_path, BLOCKS[:1])


@pytest.mark.parametrize("header", [{"schema": 2, "device": "local"}, {"schema": 1, "device": "pi4"}])
def test_journal_of_another_kind(tmp_path: Path, header: dict[str, object]) -> None:
    append_record(journal_path(tmp_path / "local.parquet"), {**header, "environment": {}})
    with pytest.raises(TableError, match=r"is of schema .*: expected schema 1 and 'local'\. Move it away"):
        measured(tmp_path)


@pytest.mark.parametrize("failing", ["fsync", "replace", "unlink"])
def test_failed_fold_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path = tmp_path / "local.parquet"
    expected = measured(tmp_path)
    path.unlink()
    append_record(
        journal_path(path),
        {"schema": 1, "device": "local", "environment": next(iter(expected.environments.values()))},
    )
    for row in expected.rows:
        append_record(journal_path(path), {"row": row_record(row)})

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("jmsnas.profiler.fold.Path.unlink" if failing == "unlink" else f"os.{failing}", full)
        with pytest.raises(StorageError, match="No space left on device"):
            measured(tmp_path)
    assert measured(tmp_path) == expected and not journal_path(path).exists()


def test_damaged_table_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "local.parquet"
    path.write_text("not mine")
    with pytest.raises(TableError, match="damaged, or not a Parquet file"):
        measured(tmp_path)
    assert path.read_text() == "not mine"


def test_table_of_another_device(tmp_path: Path) -> None:
    measured(tmp_path, BLOCKS[:1])
    (tmp_path / "local.parquet").rename(tmp_path / "pi4.parquet")
    with pytest.raises(TableError, match=r"is a table of local: expected pi4"):
        profile("pi4", BLOCKS, [EAGER], tmp_path / "pi4.parquet", cache=tmp_path)


def test_other_schema_version_is_set_aside(tmp_path: Path) -> None:
    for _ in range(2):
        measured(tmp_path, BLOCKS[:1])
        path = tmp_path / "local.parquet"
        old = pq.read_table(path)
        metadata = {**old.schema.metadata, b"jmsnas.schema": b"9"}
        pq.write_table(old.replace_schema_metadata(metadata), path)
        with pytest.warns(UserWarning, match="has schema 9, this version writes 1: it now lies at"):
            assert len(measured(tmp_path, BLOCKS[:1]).rows) == 1
    names = sorted(p.name for p in tmp_path.glob("*schema*"))
    assert names == ["local.parquet.schema9-1", "local.parquet.schema9-2"]


def test_later_row_takes_the_place_of_an_earlier(tmp_path: Path) -> None:
    table = measured(tmp_path, BLOCKS[:1])
    (row,), path = table.rows, tmp_path / "local.parquet"
    again = replace(row, ratio=row.ratio * 1.0001, ratio_high=row.ratio_high * 1.1)
    append_record(journal_path(path), {"row": row_record(again)})
    (found,) = measured(tmp_path, BLOCKS[:1]).rows
    assert found.ratio == again.ratio
