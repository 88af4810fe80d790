"""Write-ahead journal of a latency table: one checksummed JSON line per row, and a lock for its only writer.

Parquet cannot be appended to, and a file written in place is lost when the process is killed. So a row is
first appended to `<table>.journal` (fsync), and the journal is merged into the table at the end of a run.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from jmsnas.errors import MeasurementError, TableError
from jmsnas.files import make_folder, storage_error


def journal_path(table_path: Path) -> Path:
    """Path of a table's journal: beside the table, `<table>.journal`."""
    return table_path.with_name(f"{table_path.name}.journal")


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Append one line, `<CRC-32 of the JSON> <JSON>`, and fsync.

    Raises StorageError when it cannot be written; earlier lines are untouched.
    """
    text = json.dumps(record, allow_nan=False).encode()
    line = b"%08x %s\n" % (zlib.crc32(text), text)
    make_folder(path.parent)
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            written = 0
            while written < len(line):
                written += os.write(file, line[written:])
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise storage_error(path, error) from error


@dataclass(frozen=True, slots=True)
class Journal:
    """Records of a journal; `broken_line` is the number of the first damaged line, 0 if there is none."""

    records: tuple[dict[str, Any], ...]
    broken_line: int = 0


def read_journal(path: Path) -> Journal:
    """Read the records of a journal up to the first damaged line; empty if there is no file.

    An unterminated last line is left by a killed writer and is dropped. Raises TableError when the file
    cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Journal(())
    except OSError as error:
        raise TableError(
            f"cannot read {path}: {error.strerror}. Move it away, then run the same command"
        ) from error
    records: list[dict[str, Any]] = []
    *lines, _torn = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        record = _parse(line)
        if record is None:
            return Journal(tuple(records), number)
        records.append(record)
    return Journal(tuple(records))


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        if int(line[:8], 16) != zlib.crc32(line[9:]) or line[8:9] != b" ":
            return None
        return msgspec.json.decode(line[9:], type=dict[str, Any])
    except (ValueError, RecursionError):
        return None


@contextmanager
def table_lock(table_path: Path) -> Iterator[None]:
    """Hold the exclusive lock for writing a table; the lock is released when the process ends in any way.

    Raises MeasurementError immediately when another process holds the lock (the message has its process id),
    and StorageError when the lock file cannot be created.
    """
    path = table_path.with_name(f".{table_path.name}.lock")
    make_folder(path.parent)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(file, 20).decode(errors="replace").strip() or "unknown"
            raise MeasurementError(
                f"another profiler (process {holder}) is writing {table_path}. "
                "Wait until it ends, or choose another folder with --workspace"
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)
