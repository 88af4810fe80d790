"""What travels: four bytes of length, a JSON header of at most 4 KiB, raw bytes. No protobuf.

A tensor's header says dtype and shape, and they must agree with the bytes. Numbers that are not finite
pass as they are in float32; float16 holds what it can, and uint8 refuses them (`deploy.transport.encoding`).
"""

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jmsnas.deploy.transport.channel import MAX_MESSAGE_BYTES
from jmsnas.errors import FrameError

MAX_HEADER_BYTES, MAX_RANK, MAX_SPANS = 4096, 6, 24
DTYPES = {"f4": 4, "f2": 2, "u1": 1, "i8": 8}
_LENGTH = struct.Struct(">I")
_ID = re.compile(r"[0-9a-f]{32}")
_STOP_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MOST_NS = 1 << 62

DeviceSpan = tuple[str, int, int, int]
"""A device a request was at: name; received, begun, ended, nanoseconds of that device's steady clock."""


def pack_message(fields: Mapping[str, Any], body: bytes | memoryview = b"") -> bytes:
    """Make a message. Raises FrameError when its header is too long."""
    header = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
    if len(header) > MAX_HEADER_BYTES:
        raise FrameError(f"a header of {len(header)} bytes: expected at most {MAX_HEADER_BYTES}")
    return b"".join((_LENGTH.pack(len(header)), header, body))


def unpack_message(message: bytes) -> tuple[dict[str, Any], memoryview]:
    """Read a message: its header, a JSON object, and its body. Raises FrameError."""
    if not _LENGTH.size <= len(message) <= MAX_MESSAGE_BYTES:
        raise FrameError(f"a message of {len(message)} bytes: expected 4 to {MAX_MESSAGE_BYTES}")
    (length,) = _LENGTH.unpack_from(message)
    if length > MAX_HEADER_BYTES or _LENGTH.size + length > len(message):
        raise FrameError(f"a header of {length} bytes: expected at most {MAX_HEADER_BYTES}, in the message")
    try:
        fields = json.loads(message[_LENGTH.size : _LENGTH.size + length], parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise FrameError("a header that is not JSON: expected an object") from None
    if not isinstance(fields, dict):
        raise FrameError("a header that is no JSON object")
    return fields, memoryview(message)[_LENGTH.size + length :]


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What stands before a tensor's bytes.

    Attributes
    ----------
    id, epoch
        Which request, 32 hexadecimal digits, and by which plan it must be answered.
    dtype, shape
        `f4`, `f2`, `u1` or `i8`, and at most six sizes.
    scale, zero
        The numbers are `scale * value + zero`: uint8 on the wire.
    branch
        Which of the tensors to be joined it is; 0 where none are.
    trail
        The devices it was at, in an answer.
    """

    id: str
    epoch: int
    dtype: str
    shape: tuple[int, ...]
    scale: float = 1.0
    zero: float = 0.0
    branch: int = 0
    trail: tuple[DeviceSpan, ...] = ()


def pack_tensor(header: TensorHeader, body: bytes | memoryview) -> bytes:
    """Make the message of a tensor."""
    fields: dict[str, Any] = {
        "id": header.id,
        "epoch": header.epoch,
        "dtype": header.dtype,
        "shape": header.shape,
    }
    for name, usual in (("scale", 1.0), ("zero", 0.0), ("branch", 0), ("trail", ())):
        if (value := getattr(header, name)) != usual:
            fields[name] = value
    return pack_message(fields, body)


def unpack_tensor(message: bytes) -> tuple[TensorHeader, memoryview]:
    """Read the message of a tensor, every field checked. Raises FrameError."""
    fields, body = unpack_message(message)
    unknown = set(fields) - set(TensorHeader.__slots__)
    if unknown or not {"id", "epoch", "dtype", "shape"} <= set(fields):
        raise FrameError("a tensor's header needs id, epoch, dtype and shape, and has nothing unknown")
    shape, dtype, identity = fields["shape"], fields["dtype"], fields["id"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise FrameError(f"a tensor of an unknown dtype: expected one of {', '.join(DTYPES)}")
    if not (isinstance(shape, list) and len(shape) <= MAX_RANK and all(_whole(n, 1, 1 << 24) for n in shape)):
        raise FrameError(f"a tensor of a shape that cannot be: expected at most {MAX_RANK} sizes above 0")
    if math.prod(shape) * DTYPES[dtype] != len(body):
        raise FrameError(f"a tensor of {len(body)} bytes: expected what its dtype and shape say")
    if not (isinstance(identity, str) and _ID.fullmatch(identity)):
        raise FrameError("a request id that is not 32 hexadecimal digits")
    if not _whole(fields["epoch"], 0, 1 << 53) or not _whole(fields.get("branch", 0), 0, 255):
        raise FrameError("an epoch or a branch that is no whole number, or out of range")
    scale, zero = (_number(fields.get(name, usual)) for name, usual in (("scale", 1.0), ("zero", 0.0)))
    header = TensorHeader(
        identity,
        fields["epoch"],
        dtype,
        tuple(shape),
        scale,
        zero,
        fields.get("branch", 0),
        _trail(fields.get("trail", [])),
    )
    return header, body


def _trail(stops: Any) -> tuple[DeviceSpan, ...]:
    if not isinstance(stops, list) or len(stops) > MAX_SPANS:
        raise FrameError(f"a trail that is no list of at most {MAX_SPANS} stops")
    for stop in stops:
        if not (
            isinstance(stop, list)
            and len(stop) == 4
            and isinstance(stop[0], str)
            and _STOP_NAME.fullmatch(stop[0])
            and all(_whole(n, 0, _MOST_NS) for n in stop[1:])
        ):
            raise FrameError("a trail with a stop that is no device and three times")
    return tuple((stop[0], stop[1], stop[2], stop[3]) for stop in stops)


def _whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not -1e30 < value < 1e30:
        raise FrameError("a scale or zero that is no finite number")
    return float(value)


def _no_constant(text: str) -> Any:
    raise ValueError(text)
