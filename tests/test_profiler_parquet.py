import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.errors import StorageError, TableError
from jmsnas.profiler.parquet import SCHEMA, read_table, record_row, row_record, schema_of, write_table
from jmsnas.profiler.table import Key, LatencyTable, Row
from jmsnas.space import HEAD, STEM, Block, Candidate, Layer

BLOCKS = (
    Block(STEM, Layer(1, 16, 1, 8, 8, "stem")),
    Block(Candidate(5, 6, True), Layer(24, 24, 1, 4, 4)),
    Block(Candidate(3, 3), Layer(16, 24, 2, 8, 8)),
    Block(HEAD, Layer(32, 10, 1, 2, 2, "head", 128)),
)


KEY = Key()


def a_row(block: Block = BLOCKS[1], key: Key = KEY, ratio: float = 0.7, level_s: float = 1e-4) -> Row:
    samples = tuple(ratio * (1 + 0.001 * k) for k in range(-10, 11))
    return Row(
        device="local",
        key=key,
        block=block,
        kind="measured",
        median_s=ratio * level_s,
        low_s=ratio * 0.995 * level_s,
        high_s=ratio * 1.005 * level_s,
        ratio=ratio,
        ratio_low=ratio * 0.995,
        ratio_high=ratio * 1.005,
        reference_s=level_s,
        min_s=min(samples) * level_s,
        p90_s=samples[18] * level_s,
        rounds=len(samples),
        converged=True,
        environment="abc",
        measured_at="2026-11-23T00:00:00+00:00",
        source="a test",
        samples=samples,
    )


def a_table() -> LatencyTable:
    keys = (Key(), Key("torch"))
    rows = tuple(a_row(block, key) for key in keys for block in BLOCKS)
    return LatencyTable("local", rows, {"abc": {"cpu": "a test's"}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_table(tmp_path / "local.parquet", a_table())
    return tmp_path / "local.parquet"


def rewrite(path: Path, table: pa.Table, **metadata: str) -> None:
    """Write as any other program would, with the metadata changed."""
    changed = {key.encode(): value.encode() for key, value in metadata.items()}
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), **changed}), path)


def test_table_comes_back_exactly(path: Path) -> None:
    assert read_table(path) == a_table()
    assert pq.read_schema(path).names == SCHEMA.names
    assert pq.read_schema(path).metadata[b"jmsnas.schema"] == b"1"
    assert schema_of(path) == "1"


def test_table_without_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "t", LatencyTable("pi4", (), {}))
    assert read_table(tmp_path / "t") == LatencyTable("pi4", (), {})


@given(st.floats(1e-9, 1e3), st.floats(1e-9, 1e-3), st.sampled_from(BLOCKS))
def test_row_and_its_record_say_the_same(ratio: float, level_s: float, block: Block) -> None:
    row = a_row(block, Key("torch", 4, 2), ratio, level_s)
    assert record_row(json.loads(json.dumps(row_record(row)))) == row


def test_any_changed_bit_is_noticed(path: Path) -> None:
    content, expected, generator = path.read_bytes(), a_table(), random.Random(5)
    noticed = 0
    for _ in range(400):
        changed = bytearray(content)
        changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        try:
            # A bit that carries nothing (a statistic of the footer) may pass, another number never.
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
    assert schema_of(tmp_path / "t") == ""


def test_too_large(tmp_path: Path) -> None:
    with (tmp_path / "t").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(TableError, match="is larger than 67108864 bytes"):
        read_table(tmp_path / "t")


def test_foreign_parquet_names_what_is_missing(tmp_path: Path) -> None:
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
        TableError, match=r"has schema 9, this version reads 1\. Re-run: jmsnas profile --device local"
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
    with pytest.raises(TableError, match="was changed since it was written: its checksum is another"):
        read_table(path)


def test_claim_of_too_many_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmsnas.profiler.parquet._MAX_ROWS", 7)
    with pytest.raises(TableError, match="claims 8 rows: expected at most 7"):
        read_table(path)


def test_rows_that_cannot_stand_in_one_table(tmp_path: Path) -> None:
    table = a_table()
    # A checksum vouches for the bytes, not for the sense: a table of another device's rows.
    object.__setattr__(table, "device", "pi4")
    write_table(tmp_path / "t", table)
    with pytest.raises(TableError, match=r"cannot be used: a table of pi4 holds rows of local"):
        read_table(tmp_path / "t")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"median_s": -1.0}, "makes no sense: .*expected 0 < low <= median <= high"),
        ({"ratio": math.nan}, "makes no sense: .*expected measured or simulated and 0 < low <= ratio"),
        ({"kind": "guessed"}, "'guessed' with ratio"),
        ({"runtime": "tflite"}, "cannot run in 'tflite'.*expected a run time of onnxruntime, torch"),
        ({"kernel_size": 4}, "needs an odd kernel_size"),
        ({"candidate": "mb_k3_e3"}, "says it is 'mb_k3_e3' but describes 'mb_k5_e6_skip'"),
        ({"stride": 2}, "needs a layer that keeps its shape"),
        ({"samples": None}, "makes no sense"),
    ],
)
def test_record_that_makes_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(TableError, match=message):
        record_row(row_record(a_row()) | changes)


def test_record_that_lacks_a_column() -> None:
    record = row_record(a_row())
    del record["height"]
    with pytest.raises(TableError, match="a row lacks the column 'height'"):
        record_row(record)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_failed_write_keeps_the_old_table(path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"os.{failing}", full)
    with pytest.raises(StorageError, match="No space left on device. Nothing was overwritten"):
        write_table(path, replace(a_table(), rows=()))
    assert read_table(path) == a_table()
    assert list(path.parent.iterdir()) == [path]
