"""Write-ahead journal of a latency table: one checksummed JSON line per row, and a lock for its only writer.

Parquet cannot be appended to, and a file written in place is lost when the process is killed. So a row is
first appended to `<table>.journal` (fsync), and the journal is merged into the table at the end of a run.
"""

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
from jmsnas.files import exclusive_lock, make_folder, storage_error


def journal_path(table_path: Path) -> Path:
    """Path of a table's journal: beside the table, `<table>.journal`."""
    return table_path.with_name(f"{table_path.name}.journal")


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Append one line, `<CRC-32 of the JSON> <JSON>`, and fsync.

    An unterminated last line of a killed writer is terminated first, so that it does not join this one.
    Raises StorageError when it cannot be written; earlier lines are untouched.
    """
    text = json.dumps(record, allow_nan=False).encode()
    line = b"%08x %s\n" % (zlib.crc32(text), text)
    make_folder(path.parent)
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line
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
    """Records of a journal, and the numbers of its damaged lines."""

    records: tuple[dict[str, Any], ...]
    damaged_lines: tuple[int, ...] = ()


def read_journal(path: Path) -> Journal:
    """Read the records of all undamaged lines of a journal; empty if there is no file.

    Each line has its own checksum, so a damaged line does not affect those behind it. An unterminated last
    line is left by a killed writer and is dropped. Raises TableError when the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Journal(())
    except OSError as error:
        raise TableError(
            f"cannot read {path}: {error.strerror}. Move it away, then run the same command"
        ) from error
    *lines, _unterminated = content.split(b"\n")
    records = [_parse(line) for line in lines]
    damaged = tuple(number for number, record in enumerate(records, 1) if record is None)
    return Journal(tuple(record for record in records if record is not None), damaged)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        if int(line[:8], 16) != zlib.crc32(line[9:]) or line[8:9] != b" ":
            return None
        return msgspec.json.decode(line[9:], type=dict[str, Any])
    except (ValueError, RecursionError):
        return None


@contextmanager
def table_lock(table_path: Path) -> Iterator[None]:
    """Hold the exclusive lock for writing a table; see `exclusive_lock`.

    Raises MeasurementError immediately when another process holds the lock, and StorageError.
    """

    def busy(holder: str) -> MeasurementError:
        return MeasurementError(
            f"another profiler (process {holder}) is writing {table_path}. "
            "Wait until it ends, or choose another folder with --workspace"
        )

    with exclusive_lock(table_path.with_name(f".{table_path.name}.lock"), busy):
        yield
