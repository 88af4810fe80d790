"""Messages for files with excessive claims or unpacked sizes; the files are those of tests/prove."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prove.strange_parquet import lying_page, odd_metadata, ours, packed, published, reclaimed

from jmsnas.errors import TableError
from jmsnas.profiler.quality.read_published import read_entries
from jmsnas.profiler.table import safe_parquet as bounded
from jmsnas.profiler.table.parquet import read_metadata, read_table
from jmsnas.profiler.table.safe_parquet import open_parquet, read_columns
from jmsnas.profiler.table.schema import SCHEMA

COLUMNS = ["device", "latency_ms"]


def list_of(count: int) -> bytes:
    column = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.array(np.zeros(count)))
    return packed(pa.table({"samples": column}))


def test_valid_files_are_read_like_by_pyarrow(tmp_path: Path) -> None:
    content = ours(tmp_path / "ours")
    assert read_columns(content, SCHEMA.names).equals(pq.read_table(io.BytesIO(content)))
    for options in ({}, {"data_page_version": "2.0"}, {"use_dictionary": False, "compression": "none"}):
        table = published(70_000, batch=pa.array([1, None] * 35_000))
        content = packed(table, row_group_size=20_000, data_page_size=1000, **options)
        assert read_columns(content, table.column_names).equals(table)
        assert read_columns(content, COLUMNS).column_names == COLUMNS


def test_list_that_is_too_long() -> None:
    content = list_of(20_000_001)
    assert len(content) < 1000
    with pytest.raises(ValueError, match=r"it has 2000000\d values, expected at most 20000000"):
        read_columns(content, ["samples"])


def test_list_longer_than_claimed() -> None:
    with pytest.raises(ValueError, match="a column claims 10 values, its pages have 123457"):
        read_columns(reclaimed(list_of(123_457), 123_457, 10), ["samples"])


def test_text_in_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "_MAX_TEXT_BYTES", 26)
    content = packed(published(3, device=pa.array(["a board"] * 3)))
    assert read_columns(content, COLUMNS[1:]).num_rows == 3
    monkeypatch.setattr(bounded, "_MAX_TEXT_BYTES", 20)
    with pytest.raises(ValueError, match="it has 21 bytes of text, expected at most 20"):
        read_columns(content, COLUMNS)


@pytest.mark.parametrize(
    ("what", "value", "message"),
    [
        ("unpacked", 2**31 - 1, r"it has 214748\d+ bytes, expected at most 536870912"),
        ("unpacked", -1, "a page has a negative size"),
        ("packed", -1, "a page has a negative size"),
        ("values", 4, "a column claims 3 values, its pages have 4"),
        ("values", -1, "a page has a negative size"),
    ],
)
def test_page_header_with_false_sizes(what: str, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_columns(lying_page(what, value, dictionary=False), ["latency_ms"])


def test_page_beyond_the_end() -> None:
    with pytest.raises(ValueError, match="a value is outside the file"):
        read_columns(lying_page("packed", 2**31 - 1, dictionary=True), ["latency_ms"])


def test_row_group_that_lacks_a_column() -> None:
    content = packed(pa.table({"a": [1], "b": [2]}))
    with pytest.raises(ValueError, match="a row group has 2 columns, expected 3"):
        list(bounded._chunks(content, leaves=3, read=[0]))


def test_texts_that_repeat_each_other() -> None:
    content = packed(published(), use_dictionary=False, column_encoding={"device": "DELTA_BYTE_ARRAY"})
    with pytest.raises(ValueError, match="DELTA_BYTE_ARRAY, expected another encoding"):
        read_columns(content, ["device"])
    assert read_columns(content, ["latency_ms"]).num_rows == 3


def test_footer_that_is_too_long() -> None:
    content = packed(published().replace_schema_metadata({"x": "y" * (4 << 20)}))
    with pytest.raises(ValueError, match=r"it has \d+ bytes of footer, expected at most 4194304"):
        open_parquet(content)


def test_duplicate_column() -> None:
    content = packed(published().append_column("device", pa.array(["x"] * 3)))
    with pytest.raises(ValueError, match="the column device occurs twice"):
        read_columns(content, COLUMNS)


def test_column_of_dates(tmp_path: Path) -> None:
    dates = pa.array([0] * 3, pa.timestamp("us"))
    (tmp_path / "t").write_bytes(packed(published(latency_ms=dates)))
    with pytest.raises(TableError, match=r"latency_ms of type timestamp\[us\]: expected numbers or strings"):
        read_entries(tmp_path / "t")


def test_number_that_no_float_holds(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(packed(published(batch=pa.array([np.inf] * 3))))
    with pytest.raises(TableError, match="row 1 is invalid: cannot convert float infinity to integer"):
        read_entries(tmp_path / "t")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("brackets", r"cannot be used: its environments are not JSON"),
        ("no JSON", r"cannot be used: its environments are not JSON"),
        ("number for environments", r"cannot be used: its environments are not JSON of the form"),
        ("number for an environment", r"cannot be used: its environments are not JSON of the form"),
    ],
)
def test_invalid_environments(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "t").write_bytes(dict(odd_metadata(ours(tmp_path / "ours")))[name])
    with pytest.raises(TableError, match=message):
        read_table(tmp_path / "t")


def test_metadata_of_unreadable_files(tmp_path: Path) -> None:
    assert read_metadata(tmp_path / "none", "jmsnas.schema") == ""
    with pytest.raises(TableError, match=r"cannot read .*: Is a directory\. Make it with: jmsnas profile"):
        read_metadata(tmp_path, "jmsnas.schema")
