"""Latency tables as Parquet files: an explicit schema, checked in every bit when read.

Plain Parquet reads most changed bits back as other numbers; page checksums are therefore on, and a SHA-256
of the content stands in the metadata. docs/table.md describes every column.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jmsnas.errors import JmsnasError, TableError
from jmsnas.files import write_atomic
from jmsnas.profiler.table import SCHEMA_VERSION, Key, LatencyTable, Row
from jmsnas.space import Block, Candidate, Layer

# The table of a large space is below 10 MB; more is a mistake or an attack.
_MAX_BYTES = 64 << 20
_MAX_ROWS = 1_000_000
_MAX_UNPACKED_BYTES = 512 << 20

_LAYER = ("in_channels", "out_channels", "stride", "height", "width", "role", "hidden_channels")
_SECONDS = (
    "median_s",
    "low_s",
    "high_s",
    "ratio",
    "ratio_low",
    "ratio_high",
    "reference_s",
    "min_s",
    "p90_s",
)
_TEXTS = ("environment", "measured_at", "source")

_TYPES = {
    **dict.fromkeys(("device", "runtime"), pa.string()),
    **dict.fromkeys(("threads", "batch"), pa.int32()),
    **dict.fromkeys(("dtype", "candidate", "op"), pa.string()),
    **dict.fromkeys(("kernel_size", "expansion"), pa.int32()),
    "shortcut": pa.bool_(),
    **dict.fromkeys(
        ("in_channels", "out_channels", "hidden_channels", "stride", "height", "width"), pa.int32()
    ),
    **dict.fromkeys(("role", "kind"), pa.string()),
    **dict.fromkeys(_SECONDS, pa.float64()),
    "rounds": pa.int32(),
    "converged": pa.bool_(),
    **dict.fromkeys(_TEXTS, pa.string()),
    "samples": pa.list_(pa.float64()),
}
SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _TYPES.items()])


def row_record(row: Row) -> dict[str, Any]:
    """Give a row as its columns: plain numbers and strings, as in the file and in the journal."""
    key, candidate, layer = row.key, row.block.candidate, row.block.layer
    return {
        "device": row.device,
        **{name: getattr(key, name) for name in ("runtime", "threads", "batch", "dtype")},
        "candidate": candidate.name,
        **{name: getattr(candidate, name) for name in ("op", "kernel_size", "expansion", "shortcut")},
        **{name: getattr(layer, name) for name in _LAYER},
        **{name: getattr(row, name) for name in ("kind", *_SECONDS, "rounds", "converged", *_TEXTS)},
        "samples": list(row.samples),
    }


def record_row(record: dict[str, Any]) -> Row:
    """Make a row from its columns.

    Raises
    ------
    TableError
        When a column is missing or the values make no sense together.
    """
    try:
        candidate = Candidate(
            *(record[name] for name in ("kernel_size", "expansion", "shortcut", "op")),
        )
        if candidate.name != record["candidate"]:
            raise TableError(f"a row says it is {record['candidate']!r} but describes {candidate.name!r}")
        key = Key(*(record[name] for name in ("runtime", "threads", "batch", "dtype")))
        return Row(
            record["device"],
            key,
            Block(candidate, Layer(*(record[name] for name in _LAYER))),
            **{name: record[name] for name in ("kind", *_SECONDS, "rounds", "converged", *_TEXTS)},
            samples=tuple(record["samples"]),
        )
    except KeyError as error:
        raise TableError(f"a row lacks the column {error}") from error
    except (JmsnasError, TypeError, ValueError) as error:
        raise TableError(f"a row makes no sense: {error}") from error


def write_table(path: Path, table: LatencyTable) -> None:
    """Write a table; a reader meets the old file or the new one, never a part.

    Raises
    ------
    StorageError
        When it cannot be written; the old file is untouched.
    """
    records = [row_record(row) for row in table.rows]
    environments = json.dumps(table.environments, sort_keys=True)
    metadata = {
        "jmsnas.schema": str(SCHEMA_VERSION),
        "jmsnas.device": table.device,
        "jmsnas.environment": environments,
        "jmsnas.content_sha256": _content_sha256(table.device, environments, records),
    }
    sink = pa.BufferOutputStream()
    content = pa.Table.from_pylist(records, schema=SCHEMA.with_metadata(metadata))
    # No statistics: a changed bit there would mislead another reader, and no checksum covers them.
    pq.write_table(content, sink, compression="zstd", write_page_checksum=True, write_statistics=False)
    write_atomic(path, sink.getvalue().to_pybytes())


def read_table(path: Path) -> LatencyTable:
    """Read a table, refusing whatever is not exactly what was written.

    Raises
    ------
    TableError
        When the file cannot be read, is not Parquet, is not a latency table, is of another schema version,
        was changed since it was written, or holds rows that make no sense.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise TableError(
            f"cannot read {path}: {error.strerror or error}. "
            f"Make it with: jmsnas profile --device {path.stem}"
        ) from error
    if len(content) > _MAX_BYTES:
        raise TableError(f"{path} is larger than {_MAX_BYTES} bytes: expected a latency table. {_AWAY}")
    try:
        return _parse(content, path)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise TableError(f"{path} is damaged, or not a Parquet file: {reason}. {_AWAY}") from error


_AWAY = "Move it away, then measure again with jmsnas profile"


def _parse(content: bytes, path: Path) -> LatencyTable:
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    metadata = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
    schema = metadata.get("jmsnas.schema")
    if schema is not None and schema != str(SCHEMA_VERSION):
        raise TableError(
            f"{path} has schema {schema}, this version reads {SCHEMA_VERSION}. "
            f"Re-run: jmsnas profile --device {path.stem}"
        )
    missing = [name for name in SCHEMA.names if name not in file.schema_arrow.names]
    if missing or schema is None:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        lacks = f"it lacks the columns {', '.join(missing[:4])}{more}"
        what = lacks if missing else "it has no jmsnas.schema"
        raise TableError(f"{path} is not a latency table: {what}. {_AWAY}")
    if not file.schema_arrow.equals(SCHEMA):
        raise TableError(f"{path} is not a latency table: a column is of another type or unknown. {_AWAY}")
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    if (
        file.metadata.num_rows > _MAX_ROWS
        or sum(group.total_byte_size for group in groups) > _MAX_UNPACKED_BYTES
    ):
        raise TableError(
            f"{path} claims {file.metadata.num_rows} rows: expected at most {_MAX_ROWS}. {_AWAY}"
        )
    data = file.read(use_threads=False)
    data.validate(full=True)
    records = data.to_pylist()
    device, environments = metadata.get("jmsnas.device", ""), metadata.get("jmsnas.environment", "{}")
    if _content_sha256(device, environments, records) != metadata.get("jmsnas.content_sha256"):
        raise TableError(f"{path} was changed since it was written: its checksum is another. {_AWAY}")
    try:
        return LatencyTable(device, tuple(record_row(record) for record in records), json.loads(environments))
    except TableError as error:
        raise TableError(f"{path} cannot be used: {error}. {_AWAY}") from error


def schema_of(path: Path) -> str:
    """Read the schema version a file says it has; empty where it says none or is no Parquet file."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError, ValueError):
        return ""
    return str(metadata.get(b"jmsnas.schema", b"").decode(errors="replace"))


def _content_sha256(device: str, environments: str, records: list[dict[str, Any]]) -> str:
    # Over values, not bytes of the file: independent of compression and of pyarrow's version.
    values = [[record[name] for name in SCHEMA.names] for record in records]
    text = json.dumps([SCHEMA_VERSION, device, environments, values])
    return hashlib.sha256(text.encode()).hexdigest()
