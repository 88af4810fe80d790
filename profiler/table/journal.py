"""Finished rows on disk the moment they are finished: one checksummed line each, and one writer at a time.

Parquet cannot be appended to, and written in place it is lost when the process is killed. So a row goes to
`<table>.journal` first (append, fsync), and the journal is folded into the table at the end of a run.
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

from jmsnas.errors import MeasurementError, TableError
from jmsnas.files import make_folder, storage_error


def journal_path(table_path: Path) -> Path:
    """Where the journal of a table lies: beside it, `<table>.journal`."""
    return table_path.with_name(f"{table_path.name}.journal")


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add one line, `<CRC-32 of the JSON> <JSON>`, and return when it is on the disk.

    Raises
    ------
    StorageError
        When it cannot be written; what was there before is untouched.
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
    """The records of a journal; `broken_line` numbers a damaged line in its middle, or is 0."""

    records: tuple[dict[str, Any], ...]
    broken_line: int = 0


def read_journal(path: Path) -> Journal:
    """Read the records of a journal up to the first line that is not whole; none where there is no file.

    A last line without its end is what a killed writer leaves, and is dropped; any other broken line is
    damage, and named. Raises TableError when the file cannot be read.
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
        record = json.loads(line[9:])
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


@contextmanager
def table_lock(table_path: Path) -> Iterator[None]:
    """Be the one process that writes a table; the lock falls with the process, however it ends.

    Raises
    ------
    MeasurementError
        At once, when another process holds it; the message has that process's id.
    StorageError
        When the lock's file cannot be made.
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
                "Wait until it ends, or choose another place with --workspace"
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)
