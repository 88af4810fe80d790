"""Fault injection: make the n-th file system call fail and count the calls, so that every n can be tried."""

import builtins
import errno
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CALLS = ("open", "write", "pwrite", "fsync", "close", "rename", "replace", "unlink", "mkdir", "ftruncate")
# Calls that work on a full disk.
_NEEDS_NO_ROOM = ("close", "unlink", "ftruncate", "open to read")


@dataclass
class Faults:
    """Fails call number `at` (from 1; 0: none), or with `full` it and every later one that needs disk space.

    A failing write writes the first half of its data, as on a disk that becomes full.
    """

    at: int = 0
    number: int = errno.EIO
    full: bool = False
    met: int = 0
    last: str = ""

    def due(self, name: str) -> bool:
        if self.full and name in _NEEDS_NO_ROOM:
            return False
        self.met += 1
        if self.met == self.at or (self.full and 0 < self.at < self.met):
            self.last = name
            return True
        return False

    def error(self, path: object = None) -> OSError:
        return OSError(self.number, os.strerror(self.number), path)


class _File:
    """A Python file object whose writes can fail."""

    def __init__(self, file: Any, faults: Faults, ours: set[int]) -> None:
        self._file, self._faults, self._ours = file, faults, ours

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *raised: object) -> None:
        self._ours.discard(self._file.fileno())
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, content: bytes) -> int:
        if self._faults.due("file.write"):
            self._file.write(content[: len(content) // 2])
            raise self._faults.error()
        return int(self._file.write(content))


def inject(monkeypatch: pytest.MonkeyPatch, folder: Path, faults: Faults) -> None:
    """Apply the faults to every call on a file below `folder`, by path or by descriptor."""
    ours: set[int] = set()

    def concerns(argument: Any) -> bool:
        if isinstance(argument, int):
            return argument in ours
        return str(folder) in os.fsdecode(argument)

    def faulty(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if not concerns(arguments[0]):
                return real(*arguments, **named)
            failing = faults.due(name)
            if name == "close":  # a descriptor is closed even where closing fails
                ours.discard(arguments[0])
                real(*arguments)
            if failing:
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise faults.error(None if isinstance(arguments[0], int) else os.fspath(arguments[0]))
            found = None if name == "close" else real(*arguments, **named)
            if name == "open":
                ours.add(found)
            return found

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, faulty(name, getattr(os, name)))

    real_open = io.open

    def opened(path: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(path, int) or not concerns(path):
            return real_open(path, *arguments, **named)
        if faults.due("open to write" if "wb" in arguments else "open to read"):
            raise faults.error(os.fspath(path))
        return _File(real_open(path, *arguments, **named), faults, ours)

    monkeypatch.setattr(io, "open", opened)  # of pathlib
    monkeypatch.setattr(builtins, "open", opened)
