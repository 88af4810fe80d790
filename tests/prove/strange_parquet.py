"""Malicious Parquet files: decompression bombs, false sizes, unusual types and cells, random splices."""

import io
import pickle
import random
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from profiling_jobs import PART, a_row
from prove.synthetic_blocks import synthetic_blocks

from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.profiler.table.parquet import _TEXTS, _content_sha256, write_table
from jmsnas.profiler.table.schema import SCHEMA

RECORD: dict[str, Any] = {
    **{"device": "board", "runtime": "lite", "batch": 1, "op": "mbconv", "kernel_size": 5, "expansion": 3.0},
    **{"stride": 2, "shortcut": False, "in_channels": 8, "out_channels": 16, "height": 7, "width": 7},
    **{"n_runs": 100, "latency_var_ms2": 0.01, "arch": None, "latency_ms": 0.5},
}
BILLION, MOST = 10**9, 2**31 - 1
# A number that occurs nowhere else in a file, so that it can be replaced everywhere.
ODD = 123_457


def published(rows: int = 3, **columns: Any) -> pa.Table:
    """Return a published latency table with some columns replaced."""
    table = pa.Table.from_pylist([RECORD] * rows)
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return table


def ours(path: Path) -> bytes:
    """Return the bytes of a valid latency table of JMSNAS."""
    rows = tuple(a_row(block, (0.7, 0.71)) for block in synthetic_blocks(3))
    part = replace(a_row(PART), energy_j=1e-4, host_faults=("hot",))
    write_table(path, LatencyTable("local", rows, {"abc": {"cpu": "a test's"}}, (part,)))  # type: ignore[arg-type]
    return path.read_bytes()


def packed(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue()


def varint(value: int) -> bytes:
    """Encode an integer as in Thrift's compact protocol."""
    value = (value << 1) ^ (value >> 63)
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def reclaimed(content: bytes, old: int, new: int) -> bytes:
    """Replace a number everywhere in the footer."""
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8].replace(varint(old), varint(new))
    return content[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def lying_page(what: str, value: int, dictionary: bool) -> bytes:
    """Return a published table whose last column's first page header has `value` for `what`."""
    table = published().select([name for name in RECORD if name != "arch"])
    content = packed(table, write_statistics=False, use_dictionary=dictionary)
    chunk = pq.read_metadata(io.BytesIO(content)).row_group(0).column(table.num_columns - 1)
    start = chunk.dictionary_page_offset if dictionary else chunk.data_page_offset
    # 15 kind 15 unpacked 15 packed 2c (4c: dictionary) 15 values: of three rows each is a byte long.
    assert [content[start + at] for at in (0, 2, 4, 6, 7)] == [21, 21, 21, 76 if dictionary else 44, 21]
    place = start + {"unpacked": 3, "packed": 5, "values": 8}[what]
    return content[:place] + varint(value) + content[place + 1 :]


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def same(value: Any, rows: int, kind: pa.DataType | None = None) -> pa.Array:
    return pa.array([value], kind).take(pa.array(np.zeros(rows, np.int32)))


def strange_cells() -> Iterator[tuple[str, bytes]]:
    """Yield published tables of three rows with cells of wrong types and extreme values."""
    huge = Decimal(10) ** 70
    for name, column in {
        "infinite batch": ("batch", pa.array([float("inf")] * 3)),
        "batch that is no number": ("batch", pa.array([float("nan")] * 3)),
        "huge sizes": ("height", pa.array([huge] * 3)),
        "sizes in words": ("height", pa.array(["tall"] * 3)),
        "latency in words": ("latency_ms", pa.array(["9" * 1_000_000] * 3)),
        "huge latency": ("latency_ms", pa.array(["1e999"] * 3)),
        "less than no runs": ("n_runs", pa.array([-1, 0, 2**62])),
        "no device": ("device", pa.nulls(3)),
        "bytes for a name": ("op", pa.array([b"\xff"] * 3)),
        "dates": ("latency_ms", pa.array([2**62] * 3, pa.timestamp("us", "Nowhere/../../etc"))),
        "spans": ("latency_ms", pa.array([2**62] * 3, pa.duration("ns"))),
        "half floats": ("latency_ms", pa.array(np.ones(3, np.float16))),
        "list": ("batch", pa.array([[1]] * 3)),
        "structure": ("op", pa.array([{"a": {"b": 1}}] * 3)),
        "map": ("op", pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int8()))),
        "large texts": ("op", pa.array(["mbconv"] * 3, pa.large_string())),
        "categories": ("op", pa.array(["mbconv"] * 3).dictionary_encode()),
    }.items():
        yield name, packed(published(**{column[0]: column[1]}))
    deep = pa.array([0.5] * 3)
    for _ in range(60):
        deep = pa.ListArray.from_arrays(pa.array(np.arange(len(deep) + 1), pa.int32()), deep)
    yield "lists in lists", packed(published(latency_ms=deep))
    twice = published().append_column("batch", pa.array([1] * 3))
    yield "column twice", packed(twice)
    yield "no rows", packed(published().slice(0, 0))
    yield "no columns", packed(pa.table({}))


def extension_types(canary: Path) -> Iterator[tuple[str, bytes]]:
    """Yield tables with extension types whose deserialisation may run code, as in CVE-2023-47248."""
    evil = pickle.dumps(Canary(canary))
    for name, content in {
        "arrow.py_extension_type": evil,
        "arrow.uuid": b"",
        "arrow.json": b"[" * 100_000,
        "arrow.fixed_shape_tensor": b'{"shape": [-1, 1073741824]}',
        "no.such.type": evil,
    }.items():
        stored = (
            pa.array([b"0" * 16] * 3, pa.binary(16)) if name == "arrow.uuid" else pa.array(["mbconv"] * 3)
        )
        metadata = {"ARROW:extension:name": name, "ARROW:extension:metadata": content}
        table = published(op=stored)
        place = table.schema.get_field_index("op")
        field = pa.field("op", stored.type, metadata=metadata)
        yield name, packed(table.cast(table.schema.set(place, field)))


def bombs(of_ours: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield small files that unpack to gigabytes, and files with false sizes."""
    table = pq.read_table(io.BytesIO(of_ours))
    text, zeros = "x" * (8 << 20), np.zeros(20_000_001)

    def put(name: str, column: pa.Array) -> bytes:
        changed = table.take(pa.array(np.zeros(len(column), np.int32)))
        return packed(changed.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), column))

    listed = pa.ListArray.from_arrays(pa.array([0, len(zeros)], pa.int32()), pa.array(zeros))
    yield "list of 20 million", (bomb := put("samples", listed))
    yield "list of 20 million that says it is 10", reclaimed(bomb, len(zeros), 10)
    yield (
        "1 MB of text in every row of ours",
        put("trust_reason", same(text[: 1 << 20], 300).cast(pa.string())),
    )
    # Written as a dictionary of one value, so that it is not unpacked here.
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array([text]))
    yield "8 MB of text in every row", packed(published(100_000, op=words))
    yield "100 MB of text", packed(published(1, op=pa.array(["x" * (100 << 20)])), use_dictionary=False)
    delta = {"use_dictionary": False, "column_encoding": {"op": "DELTA_BYTE_ARRAY"}}
    yield "each text repeats the last", packed(published(1000, op=same(text[: 1 << 20], 1000)), **delta)
    yield (
        "a million rows",
        packed(pa.table({name: same(v, 10**6) for name, v in RECORD.items() if v is not None})),
    )
    yield "ten thousand columns", packed(pa.table({f"c{n}": [1] for n in range(10_000)}))
    yield "a billion rows", reclaimed(packed(published(ODD)), ODD, BILLION)
    yield "a billion rows of ours", reclaimed(put("op", same("mb", ODD)), ODD, BILLION)
    for what in ("unpacked", "packed", "values"):
        for value in (MOST, -1, 4_000_000):
            for dictionary in (False, True):
                kind = "dictionary" if dictionary else "page"
                yield f"{kind} with {value} {what}", lying_page(what, value, dictionary)


def odd_metadata(of_ours: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield JMSNAS tables with a valid checksum and invalid metadata."""
    table = pq.read_table(io.BytesIO(of_ours))
    known = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    for name, environment in {
        "brackets": "[" * 100_000,
        "number for environments": "5",
        "number for an environment": '{"abc": 5}',
        "no JSON": "{",
    }.items():
        texts = {**known, "jmsnas.environment": environment}
        signed = _content_sha256({key: texts[key] for key in _TEXTS}, table.to_pylist())
        metadata = {**texts, "jmsnas.content_sha256": signed}
        yield name, packed(table.replace_schema_metadata(metadata))
    yield "no UTF-8", packed(table.replace_schema_metadata({**known, b"\xff": b"\xff"}))
    for kilobytes in (1200, 5000):
        metadata = {**known, "more": "x" * 1024 * kilobytes}
        yield f"{kilobytes} kB of metadata", packed(table.replace_schema_metadata(metadata))
    yield "ours by name only", packed(published().replace_schema_metadata({"jmsnas.schema": "2"}))


def no_parquet() -> Iterator[tuple[str, bytes]]:
    yield from {
        "nothing": b"",
        "magic": b"PAR1",
        "magic twice": b"PAR1PAR1",
        "footer of 4 GB": b"PAR1" + b"\xff" * 4 + b"PAR1",
        "footer of nothing": b"PAR1" + bytes(4) + b"PAR1",
        "encrypted": b"PARE" + bytes(100) + (100).to_bytes(4, "little") + b"PARE",
        "pickle": pickle.dumps([1]),
        "zip": b"PK\x03\x04" + bytes(100),
    }.items()


def good_files(of_ours: bytes) -> list[bytes]:
    """Return valid files to splice: with and without checksums, compressed and not."""
    plain = {"compression": "none", "use_dictionary": False}
    table = pq.read_table(io.BytesIO(of_ours))
    return [of_ours, packed(table, **plain), packed(published()), packed(published(40), **plain)]


def spliced(content: bytes, generator: random.Random) -> bytes:
    """Overwrite or insert bytes one to four times, half of the time in the footer, which holds the sizes."""
    found = bytearray(content)
    length = int.from_bytes(content[-8:-4], "little")
    for _ in range(generator.randint(1, 4)):
        first = len(found) - length - 8 if generator.random() < 0.5 else 0
        at = generator.randrange(max(first, 0), len(found))
        size = generator.choice((1, 1, 2, 4, 16, 200))
        source = generator.randrange(len(content))
        piece = generator.choice((generator.randbytes(size), content[source : source + size], b"\xff" * size))
        replaced = generator.choice((0, len(piece), size))
        found[at : at + replaced] = piece
    return bytes(found)
