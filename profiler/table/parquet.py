"""Read and write latency tables as Parquet files, with an explicit schema and checksums.

Plain Parquet reads most changed bits back as other numbers; page checksums are therefore on, and the metadata
has a SHA-256 of the content. docs/table.md describes the columns.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from jmsnas.errors import TableError
from jmsnas.files import write_atomic
from jmsnas.profiler.table.latency_table import SCHEMA_VERSION, LatencyTable
from jmsnas.profiler.table.noise_floor import noise_floor
from jmsnas.profiler.table.safe_parquet import open_parquet, read_columns
from jmsnas.profiler.table.schema import SCHEMA, row_from_record, row_to_record, separate_parts

# The table of a large space is below 10 MB; a larger file is a mistake or an attack.
_MAX_BYTES = 64 << 20
_MAX_ROWS = 1_000_000
# Errors that pyarrow raises for bytes that are not a Parquet file; OverflowError for numbers out of range.
PARQUET_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError, LookupError, MemoryError)
_TEXTS = ("jmsnas.device", "jmsnas.environment", "jmsnas.noise", "jmsnas.journal_sha256")


def write_table(path: Path, table: LatencyTable, journal_sha256: str = "") -> None:
    """Write a table atomically.

    `journal_sha256` identifies the journal that was merged into it, so that it is never merged twice. Raises
    StorageError when it cannot be written; the old file is untouched.
    """
    records = [row_to_record(row) for row in table.all_rows]
    texts = {
        "jmsnas.device": table.device,
        "jmsnas.environment": json.dumps(table.environments, sort_keys=True),
        "jmsnas.noise": json.dumps(_noise(table)),
        "jmsnas.journal_sha256": journal_sha256,
    }
    metadata = {
        "jmsnas.schema": str(SCHEMA_VERSION),
        **texts,
        "jmsnas.content_sha256": _content_sha256(texts, records),
    }
    sink = pa.BufferOutputStream()
    content = pa.Table.from_pylist(records, schema=SCHEMA.with_metadata(metadata))
    # No statistics: a changed bit there would mislead other readers, and no checksum covers them.
    pq.write_table(content, sink, compression="zstd", write_page_checksum=True, write_statistics=False)
    write_atomic(path, sink.getvalue().to_pybytes())


def read_table(path: Path) -> LatencyTable:
    """Read a table and verify its schema and checksum.

    Raises TableError when the file cannot be read, is not Parquet, is not a latency table, is of another
    schema version, was changed since it was written, or has invalid rows.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > _MAX_BYTES:
        raise TableError(f"{path} is larger than {_MAX_BYTES} bytes: expected a latency table. {_REPAIR}")
    try:
        return _parse(content, path)
    except PARQUET_ERRORS as error:
        raise TableError(
            f"{path} is damaged, or not a Parquet file: {first_line(error)}. {_REPAIR}"
        ) from error


def first_line(error: BaseException) -> str:
    """Shorten the message of an error to its first line, at most 200 characters."""
    return str(error).partition("\n")[0].rstrip(".")[:200] or type(error).__name__


def _unreadable(path: Path, error: OSError) -> TableError:
    return TableError(
        f"cannot read {path}: {error.strerror or error}. Make it with: jmsnas profile --device {path.stem}"
    )


_REPAIR = "Move it away, then measure again with jmsnas profile"


def _parse(content: bytes, path: Path) -> LatencyTable:
    file = open_parquet(content)
    metadata = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
    schema = metadata.get("jmsnas.schema")
    if schema is not None and schema != str(SCHEMA_VERSION):
        raise TableError(
            f"{path} has schema {schema}, this version reads {SCHEMA_VERSION}. "
            f"Re-run: jmsnas profile --device {path.stem}"
        )
    names = file.schema_arrow.names
    missing = [name for name in SCHEMA.names if name not in names]
    if missing or schema is None:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        lacks = f"it lacks the columns {', '.join(missing[:4])}{more}"
        why = lacks if missing else "it has no jmsnas.schema"
        raise TableError(f"{path} is not a latency table: {why}. {_REPAIR}")
    if not file.schema_arrow.equals(SCHEMA):
        raise TableError(f"{path} is not a latency table: a column is of another type or unknown. {_REPAIR}")
    if file.metadata.num_rows > _MAX_ROWS:
        raise TableError(
            f"{path} claims {file.metadata.num_rows} rows: expected at most {_MAX_ROWS}. {_REPAIR}"
        )
    records = read_columns(content, SCHEMA.names).to_pylist()
    texts = {name: metadata.get(name, "") for name in _TEXTS}
    if _content_sha256(texts, records) != metadata.get("jmsnas.content_sha256"):
        raise TableError(f"{path} was changed since it was written: its checksum differs. {_REPAIR}")
    try:
        rows, parts = separate_parts(row_from_record(record) for record in records)
        return LatencyTable(texts["jmsnas.device"], rows, _environments(texts), parts)
    except TableError as error:
        raise TableError(f"{path} cannot be used: {error}. {_REPAIR}") from error


def _environments(texts: dict[str, str]) -> dict[str, dict[str, str]]:
    try:
        return msgspec.json.decode(texts["jmsnas.environment"], type=dict[str, dict[str, str]])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise TableError(
            f"its environments are not JSON of the form {{id: {{name: value}}}}: {error}"
        ) from error


def _noise(table: LatencyTable) -> list[dict[str, Any]]:
    """Noise floor of each key and environment, for other programs that read the file."""
    groups = ((*group, noise_floor(rows)) for group, rows in table.measured_groups.items())
    return [{"key": key.label, "environment": name, **asdict(floor)} for key, name, floor in groups if floor]


def read_metadata(path: Path, name: str) -> str:
    """Read one metadata entry of a Parquet file, unverified.

    Empty where the file has none, is not Parquet or does not exist. Raises TableError if it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        metadata = open_parquet(content).schema_arrow.metadata or {}
    except PARQUET_ERRORS:
        return ""
    return str(metadata.get(name.encode(), b"").decode(errors="replace"))


def _content_sha256(texts: dict[str, str], records: list[dict[str, Any]]) -> str:
    # Of the values, not of the file's bytes: independent of compression and of pyarrow's version.
    values = [[record[name] for name in SCHEMA.names] for record in records]
    text = json.dumps([SCHEMA_VERSION, *(texts[name] for name in _TEXTS), values])
    return hashlib.sha256(text.encode()).hexdigest()
