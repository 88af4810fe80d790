"""Read published latency tables, and JMSNAS tables, as entries for the quality gate.

A published table is a Parquet or CSV file with one row a block (or a whole model): `device`, `runtime`,
`batch`, `latency_ms` and either the geometry columns of docs/table.md or `arch`.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc

from jmsnas.csv_file import parse_csv
from jmsnas.errors import TableError
from jmsnas.profiler.quality.latency_entry import LatencyEntry, entries_of_table
from jmsnas.profiler.table.measurement import Z_95
from jmsnas.profiler.table.parquet import PARQUET_ERRORS, first_line, read_metadata, read_table
from jmsnas.profiler.table.safe_parquet import open_parquet, read_columns

_MAX_BYTES = 64 << 20
_MAX_ROWS = 1_000_000
_ALWAYS = ("device", "runtime", "batch", "latency_ms")
_GEOMETRY = (
    *("op", "kernel_size", "expansion", "stride", "shortcut"),
    *("in_channels", "out_channels", "height", "width"),
)
# Columns of a published table of blocks.
BLOCK_COLUMNS = (*_ALWAYS, *_GEOMETRY)
TEXT_COLUMNS = ("device", "processor", "runtime", "campaign", "op", "activation", "space", "arch", "source")
_VARIANTS = ("pw_groups", "se", "se_channels", "activation", "space", "arch")
_OTHERS = ("processor", "campaign", "mid_channels", "n_runs", "latency_var_ms2", "source")
_PLAIN = (
    *(pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean),
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_null),
)


def read_entries(path: Path) -> tuple[LatencyEntry, ...]:
    """Read a JMSNAS table or a published table as entries.

    Raises TableError when the file cannot be read, is not a Parquet file, or is not a latency table.
    """
    if read_metadata(path, "jmsnas.schema"):
        return entries_of_table(read_table(path), str(path))
    return entries_of_records(read_published_records(path), str(path))


def read_published_records(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a published table as plain records of the columns in docs/table.md.

    Raises TableError when the file cannot be read, is neither Parquet nor CSV, or is not a latency table.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
        if path.suffix.lower() == ".csv" and len(content) <= _MAX_BYTES:
            return _read_csv(content, path)
        file = open_parquet(content) if len(content) <= _MAX_BYTES else None
        if file is None or file.metadata.num_rows > _MAX_ROWS:
            raise TableError(
                f"{path} is larger than {_MAX_BYTES} bytes or {_MAX_ROWS} rows: expected a latency table"
            )
        records: list[dict[str, Any]] = read_columns(content, _columns(file.schema_arrow, path)).to_pylist()
        return records
    except FileNotFoundError as error:
        raise TableError(f"cannot read {path}: {error.strerror}") from error
    except PARQUET_ERRORS as error:
        raise TableError(
            f"{path} is damaged, or not a Parquet file: {first_line(error)}. Expected a latency table"
        ) from error


def _read_csv(content: bytes, path: Path) -> list[dict[str, Any]]:
    # One block, so that the type of a column is inferred from all of its cells.
    whole = pc.ReadOptions(use_threads=False, block_size=_MAX_BYTES)
    try:
        header = content.partition(b"\n")[0]
        if b"," not in header and (b";" in header or b"\t" in header or header.startswith(b"sep=")):
            content = _with_commas(content, path)
        found = pc.read_csv(pa.BufferReader(content), whole)
        records: list[dict[str, Any]] = found.select(_columns(found.schema, path)).to_pylist()
    except PARQUET_ERRORS as error:
        printable = "".join(letter if letter.isprintable() else "?" for letter in first_line(error))
        raise TableError(f"{path} is not a CSV table: {printable}. Expected a latency table") from error
    return records


def _with_commas(content: bytes, path: Path) -> bytes:
    """Write a table that is separated by semicolons or tabs with commas, and its numbers with points."""
    table = parse_csv(content.decode("utf-8-sig"), str(path), BLOCK_COLUMNS, TEXT_COLUMNS, TableError)
    text = io.StringIO()
    csv.writer(text).writerows([table.names, *(row.values() for row in table.rows)])
    return text.getvalue().encode()


def _columns(schema: pa.Schema, path: Path) -> list[str]:
    """Names of the columns to read: those of docs/table.md, which must be numbers or strings."""
    _check_columns(schema.names, path)
    wanted = (*BLOCK_COLUMNS, *_VARIANTS, *_OTHERS)
    fields = [field for field in schema if field.name in wanted]
    for field in fields:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(is_plain(kind) for is_plain in _PLAIN):
            raise TableError(f"{path} has {field.name} of type {kind}: expected numbers or strings")
    return [field.name for field in fields]


def _check_columns(names: Sequence[str], path: Path) -> None:
    if "latency_minus_skip_ms" in names and "latency_ms" not in names:
        raise TableError(
            f"{path} has differences to a skip operator (latency_minus_skip_ms), not latencies. "
            "Expected a column latency_ms"
        )
    wanted = _ALWAYS if "arch" in names else BLOCK_COLUMNS
    missing = [name for name in wanted if name not in names]
    if missing:
        raise TableError(
            f"{path} is not a latency table: it lacks the columns {', '.join(missing)}. Expected a table of "
            "jmsnas profile, or a published one with the columns of docs/table.md"
        )


def entries_of_records(records: Sequence[Mapping[str, Any]], table: str) -> tuple[LatencyEntry, ...]:
    """Convert plain records of a published table to entries.

    Raises TableError when a cell has the wrong type.
    """
    found = []
    for number, record in enumerate(records, 1):
        try:
            found.append(_entry(record, table, number))
        except (TypeError, ValueError, KeyError, ArithmeticError) as error:
            raise TableError(
                f"{table} row {number} is invalid: {first_line(error)}. Expected the columns of docs/table.md"
            ) from error
    return tuple(found)


def _entry(record: Mapping[str, Any], table: str, number: int) -> LatencyEntry:
    def whole(name: str, default: int = 0) -> int:
        return int(record.get(name) or default)

    latency = record["latency_ms"]
    median_s = math.nan if latency is None else float(latency) * 1e-3
    low_s, high_s = _interval_s(record, median_s)
    op, batch = "model" if record.get("arch") is not None else str(record["op"]), int(record["batch"] or 1)
    variants = ((name, record.get(name)) for name in _VARIANTS)
    entry = LatencyEntry(
        table=table,
        row=number,
        device=", ".join(str(record[name]) for name in ("device", "processor") if record.get(name)),
        setting=f"{record['runtime']}, batch {batch}",
        op={"mbconv": "mb"}.get(op, op),
        median_s=median_s,
        expansion=float(record.get("expansion") or 0.0),
        shortcut=bool(record.get("shortcut")),
        stride=whole("stride", 1),
        kernel_size=whole("kernel_size"),
        in_channels=whole("in_channels"),
        out_channels=whole("out_channels"),
        height=whole("height"),
        width=whole("width"),
        variant=" ".join(
            f"{name} {value}" for name, value in variants if value and (name, value) != ("pw_groups", 1)
        ),
        campaign="" if record.get("campaign") is None else f"campaign {record['campaign']}",
        low_s=low_s,
        high_s=high_s,
    )
    macs, moved = _work(record, op, entry)
    return replace(entry, macs=batch * macs, moved=batch * moved)


def _interval_s(record: Mapping[str, Any], mean_s: float) -> tuple[float | None, float | None]:
    runs, variance_ms2 = record.get("n_runs"), record.get("latency_var_ms2")
    if not runs or variance_ms2 is None or not variance_ms2 >= 0:
        return None, None
    half_s = Z_95 * math.sqrt(variance_ms2 / runs) * 1e-3
    return mean_s - half_s, mean_s + half_s


def _work(record: Mapping[str, Any], op: str, entry: LatencyEntry) -> tuple[float, float]:
    """MACs and numbers moved of one image: expand, depthwise, project; 0 for an unknown op."""
    wide, out, square = entry.in_channels, entry.out_channels, entry.kernel_size**2
    pixels = entry.height * entry.width
    after = -(-entry.height // entry.stride) * -(-entry.width // entry.stride)
    if op == "mbconv":
        expansion, groups = float(record.get("expansion") or 1.0), int(record.get("pw_groups") or 1)
        middle = int(record.get("mid_channels") or round(wide * expansion))
        # Some runtimes omit the first convolution where it does not widen; not counted then.
        expand = pixels * wide * middle / groups if middle > wide else 0.0
        project = after * middle * out / groups
        return expand + after * middle * square + project, float(
            pixels * (wide + 2 * middle) + after * (2 * middle + out)
        )
    if op in ("stem_conv3x3", "head_conv1x1"):
        return float(after * square * wide * out), float(pixels * wide + after * out)
    return (float(wide * out), float(pixels * wide + out)) if op == "pool_fc" else (0.0, 0.0)
