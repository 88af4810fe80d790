"""Read TOML and JSON files of bounded size, depth and digits, and write files atomically."""

import fcntl
import json
import os
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from jmsnas.errors import InputError, JmsnasError, StorageError
from jmsnas.text_limits import excess_in_json, excess_in_toml

T = TypeVar("T")

# A space, topology or device file is a page of text; a larger one is a mistake or an attack.
_MAX_TOML_BYTES = 1 << 20
_MAX_JSON_BYTES = 16 << 20


def storage_error(path: Path, error: OSError) -> StorageError:
    """Make the StorageError of a failed write: the file, the reason and the remedy."""
    reason = error.strerror or type(error).__name__
    return StorageError(
        f"cannot write {path}: {reason}. Nothing was overwritten. "
        "Free some disk space or choose another folder with --workspace, then run the same command again"
    )


def make_folder(path: Path) -> Path:
    """Create a folder and its parents, and return it. Raises StorageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
    return path


def write_atomic(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write `content` to `path` atomically (temporary file, fsync, rename).

    `mode` is the permissions of the file, which the umask reduces. Raises StorageError for a full disk or a
    read-only folder; an existing file is left unchanged.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document atomically, indented, with keys in the given order."""
    write_atomic(path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())


@contextmanager
def exclusive_lock(path: Path, busy: Callable[[str], JmsnasError], wait_s: float = 0.0) -> Iterator[int]:
    """Hold a lock file (flock) and yield its descriptor; it is released when the process ends in any way.

    The file has the process id of its holder. Where another process holds the lock for longer than `wait_s`,
    raises `busy(holder)`; raises StorageError when the file cannot be created.
    """
    make_folder(path.parent)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise storage_error(path, error) from error
    ends_s = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() >= ends_s:
                    holder = os.pread(file, 20, 0).decode(errors="replace").strip()
                    raise busy(holder or "unknown") from error
            time.sleep(0.02)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield file
    finally:
        os.close(file)


def read_bytes(path: Path, max_bytes: int, error: type[InputError], expected: str, remedy: str = "") -> bytes:
    """Read a file of at most `max_bytes`; every failure is raised as `error` with a one-line message.

    `expected` describes the file, `remedy` follows where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror or reason}{remedy}") from reason
    if len(content) > max_bytes:
        raise error(f"{path} is larger than {max_bytes} bytes: expected {expected}")
    return content


def read_toml(path: Path, error: type[InputError]) -> dict[str, Any]:
    """Read a TOML file of at most 1 MiB; every failure is raised as `error` with a one-line message."""
    return parse_toml(read_bytes(path, _MAX_TOML_BYTES, error, "a settings file"), path, error)


def parse_toml(content: bytes, path: Path, error: type[InputError]) -> dict[str, Any]:
    """Parse the content of a TOML file; every failure is raised as `error` with a one-line message."""
    try:
        text = content.decode("utf-8-sig")
        excess = excess_in_toml(text)
        if not excess:
            return tomllib.loads(text)
    except (ValueError, RecursionError) as reason:
        raise error(f"{path} is not a TOML file: {reason}") from reason
    raise error(f"{path} has {excess}: expected a settings file")


def read_json(path: Path, kind: type[T], error: type[InputError], remedy: str) -> T:
    """Read a JSON file of at most 16 MiB as `kind`; a failure is raised as `error`, ending in `remedy`."""
    content = read_bytes(path, _MAX_JSON_BYTES, error, "a JSON document", f". {remedy}")
    return parse_json(content, kind, path, error, remedy)


def parse_json(content: bytes, kind: type[T], path: Path, error: type[InputError], remedy: str) -> T:
    """Parse the content of a JSON file as `kind`, strictly; every failure is raised as `error`."""
    try:
        text = content.decode("utf-8-sig")
        excess = excess_in_json(text)
        if not excess:
            return msgspec.json.decode(text, type=kind)
    except (ValueError, RecursionError, InputError) as reason:
        raise error(f"{path} is damaged, or not as expected ({reason}). {remedy}") from reason
    raise error(f"{path} is damaged, or not as expected (it has {excess}). {remedy}")


@contextmanager
def toml_errors(where: str, error: type[InputError]) -> Iterator[None]:
    """Raise a missing key or a value of the wrong type in a TOML table as `error`."""
    try:
        yield
    except KeyError as reason:
        raise error(f"{where} lacks the key {reason}") from reason
    except (TypeError, ValueError, AttributeError, OverflowError) as reason:
        raise error(f"{where} has a value of the wrong kind: {reason}") from reason


def refuse_unknown_keys(
    table: Mapping[str, Any], known: Collection[str], where: str, error: type[InputError]
) -> None:
    """Raise `error` with the names of all keys of `table` that are not in `known`."""
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise error(f"{where} has unknown keys {', '.join(unknown)}: expected some of {', '.join(known)}")


def preset_names(kind: str) -> tuple[str, ...]:
    """List the built-in presets of a kind: `spaces`, `topologies` or `devices`."""
    files = resources.files("jmsnas").joinpath("presets", kind).iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def preset_path(kind: str, name: str) -> Path:
    """Return the path of a built-in preset."""
    return Path(str(resources.files("jmsnas").joinpath("presets", kind, f"{name}.toml")))


_SINGULAR = {"spaces": "space", "topologies": "topology"}


def find_toml(kind: str, name: str, user_folder: Path | None, error: type[InputError]) -> Path:
    """Find a settings file: a path ending in .toml, else NAME.toml in `user_folder`, else a built-in preset.

    `kind` is `spaces` or `topologies`; an unknown name is raised as `error`.
    """
    if name.endswith(".toml"):
        return Path(name)
    if user_folder:
        user_file = user_folder / f"{name}.toml"
        old_file = user_folder.with_name("networks") / user_file.name
        if user_file.exists():
            return user_file
        if kind == "topologies" and old_file.exists():  # the folder of version 0.1
            raise error(f"{old_file} is in a folder that is no longer read: move it to {user_folder}")
    presets = preset_names(kind)
    if name not in presets:
        own = {path.stem for path in user_folder.glob("*.toml")} if user_folder else set()
        known = [*presets, *sorted(own - {*presets})]
        raise error(
            f"unknown {_SINGULAR[kind]} {name!r}: expected one of {', '.join(known)}, "
            "or a file ending in .toml"
        )
    return preset_path(kind, name)
