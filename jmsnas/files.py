"""Files that are whole or not there: bounded reading, and writing by temporary name and rename."""

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jmsnas.errors import InputError, StorageError

# A space, network or device file is a page of text; more is a mistake or an attack.
_MAX_TOML_BYTES = 1 << 20


def storage_error(path: Path, error: OSError) -> StorageError:
    """Say which file could not be written and what to do; the old file, if any, is as it was."""
    reason = error.strerror or type(error).__name__
    return StorageError(
        f"cannot write {path}: {reason}. Nothing was overwritten. "
        "Free some space or choose another place with --workspace, then run the same command again"
    )


def make_folder(path: Path) -> Path:
    """Make a folder and its parents, and return it. Raises StorageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
    return path


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path` by temporary name, fsync and rename: a reader sees the old or the new file.

    Raises
    ------
    StorageError
        When the disk is full or the folder cannot be written; the old file is untouched.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document atomically, indented, keys in the order given."""
    write_atomic(path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())


def read_toml(path: Path, error: type[InputError]) -> dict[str, Any]:
    """Read a TOML file of at most 1 MiB; anything wrong with it is raised as `error`, in one line."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_TOML_BYTES + 1)
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror or reason}") from reason
    if len(content) > _MAX_TOML_BYTES:
        raise error(f"{path} is larger than {_MAX_TOML_BYTES} bytes: this is not a settings file")
    return parse_toml(content, path, error)


def parse_toml(content: bytes, path: Path, error: type[InputError]) -> dict[str, Any]:
    """Read what a TOML file holds; anything wrong with it is raised as `error`, in one line."""
    try:
        return tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as reason:
        raise error(f"{path} is not a TOML file: {reason}") from reason


def refuse_unknown_keys(
    table: Mapping[str, Any], known: Iterable[str], where: str, error: type[InputError]
) -> None:
    """Raise `error` naming every key of `table` that is not `known`."""
    known = tuple(known)
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise error(f"{where} has unknown keys {', '.join(unknown)}: expected some of {', '.join(known)}")


def preset_names(kind: str) -> tuple[str, ...]:
    """Names of the built-in presets of a kind: `spaces`, `topologies` or `devices`."""
    files = resources.files("jmsnas").joinpath("presets", kind).iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def preset_path(kind: str, name: str) -> Path:
    """Where a built-in preset lies."""
    return Path(str(resources.files("jmsnas").joinpath("presets", kind, f"{name}.toml")))


_SINGULAR = {"spaces": "space", "topologies": "topology"}


def find_toml(kind: str, name: str, user_folder: Path | None, error: type[InputError]) -> Path:
    """Find a settings file by name: a path that ends in .toml, else the user's own, else a built-in one.

    `kind` is `spaces` or `topologies`; an unknown name is raised as `error`.
    """
    if name.endswith(".toml"):
        return Path(name)
    own = user_folder / f"{name}.toml" if user_folder else None
    if own and own.exists():
        return own
    known = preset_names(kind)
    if name not in known:
        raise error(
            f"unknown {_SINGULAR[kind]} {name!r}: expected one of {', '.join(known)}, "
            "or a file ending in .toml"
        )
    return preset_path(kind, name)
