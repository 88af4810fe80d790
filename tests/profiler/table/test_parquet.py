import json
import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from profiling_jobs import BLOCKS, PART, a_row

from jmsnas.errors import StorageError, TableError
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.noise_floor import noise_floor
from jmsnas.profiler.table.parquet import read_metadata, read_table, write_table
from jmsnas.profiler.table.schema import SCHEMA


def a_table() -> LatencyTable:
    keys = (RuntimeKey(), RuntimeKey("torch"))
    rows = tuple(a_row(block, (0.7, 0.71), key) for key in keys for block in BLOCKS[:3])
    parts = (replace(a_row(PART, (3.0,), keys[0]), energy_j=1e-4, host_faults=("hot",)),)
    return LatencyTable("local", rows, {"abc": {"cpu": "a test's"}}, parts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_table(tmp_path / "local.parquet", a_table())
    return tmp_path / "local.parquet"


def rewrite(path: Path, table: pa.Table, **metadata: str) -> None:
    """Write as any other program would, with the metadata changed."""
    changed = {key.encode(): value.encode() for key, value in metadata.items()}
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), **changed}), path)


def test_table_comes_back(path: Path) -> None:
    assert read_table(path) == a_table()
    assert pq.read_schema(path).names == SCHEMA.names


def test_metadata_for_other_programs(path: Path) -> None:
    assert read_metadata(path, "jmsnas.schema") == "3" and read_metadata(path, "jmsnas.device") == "local"
    assert json.loads(read_metadata(path, "jmsnas.environment")) == {"abc": {"cpu": "a test's"}}
    floor = noise_floor(a_table().rows[:3])
    assert floor is not None
    found = json.loads(read_metadata(path, "jmsnas.noise"))
    assert [entry.pop("key") for entry in found] == ["onnxruntime-t1-b1-f32", "torch-t1-b1-f32"]
    expected = {
        "environment": "abc",
        "rows": 3,
        "median_gap": floor.median_gap,
        "p90_gap": floor.p90_gap,
        "spread": floor.spread,
    }
    assert found == [expected, expected]
    assert (
        read_metadata(path, "jmsnas.nothing") == read_metadata(path.with_name("none"), "jmsnas.schema") == ""
    )


def test_name_of_the_journal_that_was_folded_in(path: Path) -> None:
    assert read_metadata(path, "jmsnas.journal_sha256") == ""
    write_table(path, a_table(), "f00d")
    assert read_metadata(path, "jmsnas.journal_sha256") == "f00d" and read_table(path) == a_table()


@pytest.mark.parametrize(
    "name", ["jmsnas.device", "jmsnas.environment", "jmsnas.noise", "jmsnas.journal_sha256"]
)
def test_changed_metadata_is_noticed(path: Path, name: str) -> None:
    rewrite(path, pq.read_table(path), **{name: "{}"})
    with pytest.raises(TableError, match="was changed since it was written: its checksum differs"):
        read_table(path)


def test_table_without_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "t", LatencyTable("pi4", (), {}))
    assert read_table(tmp_path / "t") == LatencyTable("pi4", (), {})


def test_any_changed_bit_is_noticed(path: Path) -> None:
    content, expected, generator = path.read_bytes(), a_table(), random.Random(5)
    noticed = 0
    for _ in range(400):
        changed = bytearray(content)
        changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        try:
            # A changed bit without effect (in a footer statistic) may pass, a changed number never.
            assert read_table(path) == expected
        except TableError as error:
            noticed += 1
            assert "\n" not in str(error)
    assert noticed > 200


def test_every_truncation_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(TableError, match="is damaged, or not a Parquet file"):
            read_table(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"cannot read .*No such file.*jmsnas profile --device pi4"):
        read_table(tmp_path / "pi4.parquet")


def test_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("no table at all")
    with pytest.raises(TableError, match=r"t is damaged, or not a Parquet file: .*Move it away"):
        read_table(tmp_path / "t")
    assert read_metadata(tmp_path / "t", "jmsnas.schema") == ""


def test_too_large(tmp_path: Path) -> None:
    with (tmp_path / "t").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(TableError, match="is larger than 67108864 bytes"):
        read_table(tmp_path / "t")


def test_other_parquet_files_report_missing_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"device": ["x"], "latency": [1.0]}), tmp_path / "t")
    with pytest.raises(TableError, match="not a latency table: it lacks the columns runtime, threads, batch"):
        read_table(tmp_path / "t")


def test_columns_without_a_schema_version(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    with pytest.raises(TableError, match=r"it has no jmsnas\.schema"):
        read_table(path)


def test_other_schema_version(path: Path) -> None:
    rewrite(path, pq.read_table(path), **{"jmsnas.schema": "9"})
    with pytest.raises(
        TableError, match=r"has schema 9, this version reads 3\. Re-run: jmsnas profile --device local"
    ):
        read_table(path)


def test_other_column_type(path: Path) -> None:
    table = pq.read_table(path)
    place = table.schema.get_field_index("median_s")
    rewrite(path, table.set_column(place, "median_s", table["median_s"].cast(pa.float32())))
    with pytest.raises(TableError, match="a column is of another type or unknown"):
        read_table(path)


def test_changed_value_with_valid_pages(path: Path) -> None:
    table = pq.read_table(path)
    place = table.schema.get_field_index("rounds")
    changed = pa.array([1] * table.num_rows, pa.int32())
    rewrite(path, table.set_column(place, SCHEMA.field("rounds"), changed))
    with pytest.raises(TableError, match="was changed since it was written: its checksum differs"):
        read_table(path)


def test_claim_of_too_many_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmsnas.profiler.table.parquet._MAX_ROWS", 6)
    with pytest.raises(TableError, match="claims 7 rows: expected at most 6"):
        read_table(path)


def test_inconsistent_rows_of_a_file(tmp_path: Path) -> None:
    table = a_table()
    # A checksum vouches for the bytes, not for the sense: a table of another device's rows.
    object.__setattr__(table, "device", "pi4")
    write_table(tmp_path / "t", table)
    with pytest.raises(TableError, match=r"cannot be used: a table of pi4 has rows of local"):
        read_table(tmp_path / "t")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_failed_write_keeps_the_old_table(path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"os.{failing}", full)
    with pytest.raises(StorageError, match="No space left on device. Nothing was overwritten"):
        write_table(path, replace(a_table(), rows=(), parts=()))
    assert read_table(path) == a_table()
    assert list(path.parent.iterdir()) == [path]
