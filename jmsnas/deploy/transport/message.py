"""Messages of the control plane: four bytes of length, a JSON header of at most 4 KiB, raw bytes."""

import struct
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from jmsnas.deploy.transport.channel import MAX_MESSAGE_BYTES
from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import FrameError

MAX_HEADER_BYTES = 4096
_LENGTH = struct.Struct(">I")
T = TypeVar("T")

Nanoseconds = Annotated[int, Meta(ge=0, le=1 << 62)]
DeviceName = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9_-]{0,63}\Z")]
Epoch = Annotated[int, Meta(ge=0, le=1 << 53)]


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
