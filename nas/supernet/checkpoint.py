"""Checkpoint file of a search, `checkpoint.pt`, from which a stopped search resumes bit for bit.

The file is a line `jmsnas-checkpoint 1 <SHA-256 of the rest>`, then the output of `torch.save`. It is read
only if the digest matches, by torch's loader for tensors and plain values, which runs no code.
"""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from jmsnas.errors import InputError
from jmsnas.files import write_atomic

StateDict = dict[str, Any]
_MAGIC = b"jmsnas-checkpoint 1 "
_HEAD_BYTES = len(_MAGIC) + 64 + 1


def serialize_state(state: StateDict) -> bytes:
    """Serialize a state of tensors and plain values."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def write_checkpoint(path: Path, state: StateDict) -> None:
    """Write a checkpoint atomically: a reader sees the old file or the new one. Raises StorageError."""
    content = serialize_state(state)
    write_atomic(path, _MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read_checkpoint(path: Path) -> StateDict | None:
    """Read a checkpoint onto the CPU; None where there is no file. Raises InputError where it is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    head, body = content[:_HEAD_BYTES], content[_HEAD_BYTES:]
    if head != _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise InputError(
            f"{path} is damaged or no checkpoint of this version: remove it to start this search again, "
            "or give another --name"
        )
    try:
        state: StateDict = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read: {reason}. Remove it to start this search again") from error
    return state
