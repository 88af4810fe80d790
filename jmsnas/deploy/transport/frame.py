"""Message framing: four bytes of length, a JSON header of at most 4 KiB, raw bytes. No protobuf.

The header of a tensor has its dtype and shape, which must agree with the number of bytes.
"""

import math
import struct
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from jmsnas.deploy.transport.channel import MAX_MESSAGE_BYTES
from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import FrameError

MAX_HEADER_BYTES, MAX_RANK, MAX_SPANS = 4096, 6, 24
WireDtype = Literal["f4", "f2", "u1"]
Dtype = WireDtype | Literal["i8"]
DTYPES: dict[Dtype, int] = {"f4": 4, "f2": 2, "u1": 1, "i8": 8}
_LENGTH = struct.Struct(">I")
T = TypeVar("T")

Nanoseconds = Annotated[int, Meta(ge=0, le=1 << 62)]
RequestId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
DeviceName = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9_-]{0,63}\Z")]
Epoch = Annotated[int, Meta(ge=0, le=1 << 53)]
_Finite = Annotated[float, Meta(gt=-1e30, lt=1e30)]


class DeviceSpan(NamedTuple):
    """Trace of a request on one device; times in ns of that device's monotonic clock."""

    device: DeviceName
    received_ns: Nanoseconds
    started_ns: Nanoseconds
    ended_ns: Nanoseconds


class TensorHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Header of a tensor message.

    Attributes
    ----------
    id
        Request id, 32 hexadecimal digits.
    epoch
        Number of the plan by which the request must be answered.
    dtype, shape
        `f4`, `f2`, `u1` or `i8`, and at most six sizes.
    scale, zero
        The values are `scale * number + zero`; used by uint8.
    branch
        Index of the tensor among those that are summed at its destination; 0 where none are.
    trail
        Trace of the request, one span a device; in responses only.
    """

    id: RequestId
    epoch: Epoch
    dtype: Dtype
    shape: Annotated[tuple[Annotated[int, Meta(ge=1, le=1 << 24)], ...], Meta(max_length=MAX_RANK)]
    scale: _Finite = 1.0
    zero: _Finite = 0.0
    branch: Annotated[int, Meta(ge=0, le=255)] = 0
    trail: Annotated[tuple[DeviceSpan, ...], Meta(max_length=MAX_SPANS)] = ()


def pack_message(fields: Mapping[str, Any] | msgspec.Struct, body: bytes | memoryview = b"") -> bytes:
    """Build a message. Raises FrameError when the header is too long."""
    header = msgspec.json.encode(fields)
    if len(header) > MAX_HEADER_BYTES:
        raise FrameError(f"a header of {len(header)} bytes: expected at most {MAX_HEADER_BYTES}")
    return b"".join((_LENGTH.pack(len(header)), header, body))


def unpack_message(message: bytes) -> tuple[dict[str, Any], memoryview]:
    """Read a message: its header as a dict, and its body. Raises FrameError."""
    return unpack_as(message, dict[str, Any])


def unpack_as(message: bytes, kind: type[T]) -> tuple[T, memoryview]:
    """Read a message whose header must be a valid `kind`. Raises FrameError."""
    if not _LENGTH.size <= len(message) <= MAX_MESSAGE_BYTES:
        raise FrameError(f"a message of {len(message)} bytes: expected 4 to {MAX_MESSAGE_BYTES}")
    (length,) = _LENGTH.unpack_from(message)
    if length > MAX_HEADER_BYTES or _LENGTH.size + length > len(message):
        raise FrameError(f"a header of {length} bytes: expected at most {MAX_HEADER_BYTES}, in the message")
    view = memoryview(message)
    header, body = (view[_LENGTH.size : _LENGTH.size + length], view[_LENGTH.size + length :])
    return decode_json(header, kind, FrameError, "the header of a message"), body


def unpack_tensor(message: bytes) -> tuple[TensorHeader, memoryview]:
    """Read the message of a tensor. Raises FrameError."""
    header, body = unpack_as(message, TensorHeader)
    if (expected := math.prod(header.shape) * DTYPES[header.dtype]) != len(body):
        raise FrameError(f"a tensor of {len(body)} bytes: its dtype and shape need {expected}")
    return header, body
