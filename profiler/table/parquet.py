"""Latency tables as Parquet files: an explicit schema, checked in every bit when read.

Plain Parquet reads most changed bits back as other numbers; page checksums are therefore on, and a SHA-256
of the content stands in the metadata. docs/table.md describes every column.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jmsnas.errors import TableError
from jmsnas.files import write_atomic
from jmsnas.profiler.table.latency_table import SCHEMA_VERSION, LatencyTable
from jmsnas.profiler.table.noise_floor import noise_floor
from jmsnas.profiler.table.safe_parquet import open_parquet, read_columns
from jmsnas.profiler.table.schema import SCHEMA, row_from_record, row_to_record, separate_parts

# The table of a large space is below 10 MB; more is a mistake or an attack.
_MAX_BYTES = 64 << 20
_MAX_ROWS = 1_000_000
# Whatever pyarrow makes of bytes that are not a Parquet file; OverflowError of numbers none can hold.
PARQUET_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError, LookupError, MemoryError)
_TEXTS = ("jmsnas.device", "jmsnas.environment", "jmsnas.noise", "jmsnas.journal_sha256")


def write_table(path: Path, table: LatencyTable, journal_sha256: str = "") -> None:
    """Write a table; a reader meets the old file or the new one, never a part.

    `journal_sha256` names the journal that was folded into it, so that it is never folded in twice.

    Raises
    ------
    StorageError
        When it cannot be written; the old file is untouched.
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
        raise _unreadable(path, error) from error
    if len(content) > _MAX_BYTES:
        raise TableError(f"{path} is larger than {_MAX_BYTES} bytes: expected a latency table. {_AWAY}")
    try:
        return _parse(content, path)
    except PARQUET_ERRORS as error:
        raise TableError(f"{path} is damaged, or not a Parquet file: {first_line(error)}. {_AWAY}") from error


def first_line(error: BaseException) -> str:
    """Say in one short line what an error says, whatever stood in the file."""
    return str(error).partition("\n")[0].rstrip(".")[:200] or type(error).__name__


def _unreadable(path: Path, error: OSError) -> TableError:
    return TableError(
        f"cannot read {path}: {error.strerror or error}. Make it with: jmsnas profile --device {path.stem}"
    )


_AWAY = "Move it away, then measure again with jmsnas profile"


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
        what = lacks if missing else "it has no jmsnas.schema"
        raise TableError(f"{path} is not a latency table: {what}. {_AWAY}")
    if not file.schema_arrow.equals(SCHEMA):
        raise TableError(f"{path} is not a latency table: a column is of another type or unknown. {_AWAY}")
    if file.metadata.num_rows > _MAX_ROWS:
        raise TableError(
            f"{path} claims {file.metadata.num_rows} rows: expected at most {_MAX_ROWS}. {_AWAY}"
        )
    records = read_columns(content, SCHEMA.names).to_pylist()
    texts = {name: metadata.get(name, "") for name in _TEXTS}
    if _content_sha256(texts, records) != metadata.get("jmsnas.content_sha256"):
        raise TableError(f"{path} was changed since it was written: its checksum is another. {_AWAY}")
    try:
        rows, parts = separate_parts(row_from_record(record) for record in records)
        return LatencyTable(texts["jmsnas.device"], rows, _environments(texts), parts)
    except TableError as error:
        raise TableError(f"{path} cannot be used: {error}. {_AWAY}") from error


def _environments(texts: dict[str, str]) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(texts["jmsnas.environment"])
    except (ValueError, RecursionError) as error:
        raise TableError("its environments are not JSON") from error
    described = found.values() if isinstance(found, dict) else [None]
    if not all(isinstance(values, dict) for values in described):
        raise TableError("its environments are not described by name")
    return dict(found)


def _noise(table: LatencyTable) -> list[dict[str, Any]]:
    """Describe the noise floor of each key and environment, for readers other than this program."""
    found = []
    for (key, environment), rows in table.settings.items():
        floor = noise_floor(rows)
        if floor:
            found.append({"key": key.label, "environment": environment, **asdict(floor)})
    return found


def read_metadata(path: Path, name: str) -> str:
    """Read one entry of a file's metadata, as it stands there.

    Empty where the file has none, is no Parquet or is not there. Raises TableError where it cannot be read.
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
    # Over values, not bytes of the file: independent of compression and of pyarrow's version.
    values = [[record[name] for name in SCHEMA.names] for record in records]
    text = json.dumps([SCHEMA_VERSION, *(texts[name] for name in _TEXTS), values])
    return hashlib.sha256(text.encode()).hexdigest()
