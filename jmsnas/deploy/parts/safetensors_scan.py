"""Read the positions of the tensors in a safetensors file, without the safetensors package and without torch.

A file is the length of a header (eight bytes, little endian), the header (JSON: dtype, shape and position of
each tensor) and the values. Nothing in it is code. Only files as the leader writes them are accepted: tensors
one after the other without gaps, and no metadata.
"""

import math
import struct
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from jmsnas.deploy.parts.torch_architecture import MAX_WEIGHTS_HEADER_BYTES
from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import PartError

_LENGTH = struct.Struct("<Q")
_SIZES = {"F32": 4, "I64": 8}
_Number = Annotated[int, Meta(ge=0, lt=1 << 40)]


class _HeaderEntry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[tuple[_Number, ...], Meta(max_length=6)]
    data_offsets: tuple[_Number, _Number]


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor in a file: its dtype, its shape, and the positions of its first byte and behind its last."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def scan_safetensors(blob: bytes, weights_bytes: int) -> dict[str, TensorEntry]:
    """Read the header of a safetensors file whose tensors take `weights_bytes`, without allocating them.

    Raises PartError for another kind of file, a header of more than 1 MiB, an unsupported dtype, a shape that
    does not agree with its bytes, gaps, overlapping tensors, or another number of bytes.
    """
    if len(blob) < _LENGTH.size:
        raise PartError("not a safetensors file: it ends within its first number")
    (length,) = _LENGTH.unpack_from(blob)
    if length > min(MAX_WEIGHTS_HEADER_BYTES, len(blob) - _LENGTH.size):
        raise PartError(
            f"not a safetensors file: its header exceeds its size, or {MAX_WEIGHTS_HEADER_BYTES} bytes"
        )
    begin = _LENGTH.size + length
    if len(blob) - begin != weights_bytes:
        raise PartError(
            f"a safetensors file with {len(blob) - begin} bytes of values: its blocks have {weights_bytes}"
        )
    header = decode_json(
        blob[_LENGTH.size : begin], dict[str, _HeaderEntry], PartError, "the header of a safetensors file"
    )
    entries = {name: _tensor_entry(entry, begin) for name, entry in header.items()}
    at = begin
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != at:
            raise PartError("a safetensors file with gaps, or with overlapping tensors")
        at = entry.end
    if at != len(blob):
        raise PartError("a safetensors file with bytes that belong to no tensor")
    return entries


def _tensor_entry(entry: _HeaderEntry, start: int) -> TensorEntry:
    if entry.dtype not in _SIZES:
        raise PartError("a safetensors file with an unsupported dtype: expected F32 or I64")
    begin, end = entry.data_offsets
    if end - begin != _SIZES[entry.dtype] * math.prod(entry.shape):
        raise PartError("a safetensors file with a shape that does not agree with its bytes")
    return TensorEntry(entry.dtype, entry.shape, start + begin, start + end)
