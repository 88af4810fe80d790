import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prove.strange_parquet import varint

from jmsnas.profiler.table.thrift import (
    BINARY,
    DOUBLE,
    I32,
    I64,
    LIST,
    MAP,
    STRUCT,
    TRUE,
    CompactReader,
    Fields,
)


def read(content: bytes) -> Fields:
    return CompactReader(content, 0, len(content)).struct()


def written(fields: dict[int, Any]) -> bytes:
    """A structure of integers (as I64) and structures."""
    found = b""
    for number, value in fields.items():
        kind, body = (STRUCT, written(value)) if isinstance(value, dict) else (I64, varint(value))
        found += bytes([kind]) + varint(number) + body
    return found + b"\0"


def expected(fields: dict[int, Any]) -> Fields:
    return {
        (number, STRUCT if isinstance(value, dict) else I64): expected(value)
        if isinstance(value, dict)
        else value
        for number, value in fields.items()
    }


NUMBERS = st.integers(1, 99)
FIELDS = st.recursive(
    st.dictionaries(NUMBERS, st.integers(-(2**63), 2**63 - 1), max_size=5),
    lambda inner: st.dictionaries(NUMBERS, inner, max_size=3),
    max_leaves=8,
)


@given(FIELDS)
def test_round_trip(fields: dict[int, Any]) -> None:
    assert read(written(fields)) == expected(fields)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        read(content)
    except ValueError as error:
        assert str(error)


def test_footer_of_a_real_file() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1.0, 2.0], "b": ["x", None]}), sink, row_group_size=1)
    content = sink.getvalue()
    end = len(content) - 8
    footer = CompactReader(content, end - int.from_bytes(content[-8:-4], "little"), end)
    fields = footer.struct()
    assert footer.at == end
    groups, metadata = fields[4, LIST], pq.read_metadata(sink)
    assert fields[3, I64] == metadata.num_rows == 2 and len(groups) == 2
    for index, group in enumerate(groups):
        for place, column in enumerate(group[1, LIST]):
            known = metadata.row_group(index).column(place)
            assert column[3, STRUCT][9, I64] == known.data_page_offset


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a value is outside the file"),
        (b"\x15", "a value is outside the file"),
        (bytes([0x10 | BINARY]) + b"\x7f", "a value ends outside the file"),
        (bytes([0x10 | DOUBLE]) + bytes(7), "a value ends outside the file"),
        (bytes([0x10 | I32, 0, I32, 2, 0, 0]), "a field occurs twice or has an invalid number"),
        (bytes([I32, 0, 0, 0]), "a field occurs twice or has an invalid number"),
        (bytes([I32]) + varint(100) + bytes(2), "a field occurs twice or has an invalid number"),
        (bytes([0x10 | MAP, 0, 0]), "unexpected value type 11"),
        (bytes([0x10 | I64]) + b"\xff" * 11, "a number has more than 64 bits"),
        (bytes([0x10 | STRUCT]) * 20, "unexpected value type 12"),
    ],
)
def test_invalid_bytes(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(content)


def test_flags_and_lists_of_texts() -> None:
    content = bytes([0x10 | TRUE, 0x10 | LIST, 0x20 | BINARY, 1, 65, 1, 66, 0])
    assert read(content) == {(1, TRUE): True, (2, LIST): None}
