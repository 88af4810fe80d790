"""Where each tensor of a safetensors file lies, read without the safetensors package and without torch.

A file is the length of a header (eight bytes, little end first), the header (JSON: dtype, shape and place of
each tensor) and the numbers. Nothing in it is code. Only what our own leader writes is read: the tensors one
behind the other, without gaps, and no further words.
"""

import json
import math
import struct
from dataclasses import dataclass
from typing import Any

from jmsnas.deploy.parts.torch_architecture import MAX_WEIGHTS_HEADER_BYTES
from jmsnas.errors import PartError

_LENGTH = struct.Struct("<Q")
_SIZES = {"F32": 4, "I64": 8}
_KEYS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor in a file: its dtype, its shape, and where its bytes begin and end, from the file's start."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def scan_safetensors(blob: bytes, weights_bytes: int) -> dict[str, TensorEntry]:
    """Read the header of a safetensors file whose tensors take `weights_bytes`; no memory is taken for them.

    Raises
    ------
    PartError
        For what is no such file, a header of more than 1 MiB, a dtype that no part has, a shape that its
        bytes do not fill, gaps, tensors over one another, or another number of bytes.
    """
    if len(blob) < _LENGTH.size:
        raise PartError("not a safetensors file: it ends within its first number")
    (length,) = _LENGTH.unpack_from(blob)
    if length > min(MAX_WEIGHTS_HEADER_BYTES, len(blob) - _LENGTH.size):
        raise PartError(
            f"not a safetensors file: its header exceeds its size or {MAX_WEIGHTS_HEADER_BYTES} bytes"
        )
    begin = _LENGTH.size + length
    if len(blob) - begin != weights_bytes:
        raise PartError(
            f"a safetensors file with {len(blob) - begin} bytes of numbers: its blocks have {weights_bytes}"
        )
    try:
        header = json.loads(blob[_LENGTH.size : begin])
        places = {str(name): _place(entry, begin) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise PartError("not a safetensors file: a header that cannot be read") from None
    at = begin
    for place in sorted(places.values(), key=lambda place: (place.begin, place.end)):
        if place.begin != at:
            raise PartError("a safetensors file with gaps, or with tensors over one another")
        at = place.end
    if at != len(blob):
        raise PartError("a safetensors file with bytes that no tensor names")
    return places


def _place(entry: Any, start: int) -> TensorEntry:
    if set(entry) != _KEYS:
        raise KeyError
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(dtype) is not str or dtype not in _SIZES:
        raise PartError("a safetensors file with numbers of a dtype that no part has: expected F32 and I64")
    numbers = [*shape, begin, end]
    if any(type(number) is not int or not 0 <= number < 1 << 40 for number in numbers) or len(shape) > 6:
        raise ValueError
    if end - begin != _SIZES[dtype] * math.prod(shape):
        raise PartError("a safetensors file with a shape that its bytes do not fill")
    return TensorEntry(dtype, tuple(shape), start + begin, start + end)
