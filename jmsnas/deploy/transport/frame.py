"""Frames of the data plane: a fixed binary header, tensor descriptors, a JSON text, and raw tensors.

    48 bytes        magic, version, kind, number of tensors, branch, call, microseconds left, epoch,
                    request id, bytes of the text, bytes of the tensors
    48 bytes each   descriptors: dtype, rank, scale, zero, six sizes
    text            at most 4 KiB: the trail of a response, an error, the times of an exchange
    body            the tensors, one after the other

All numbers are little-endian. Every size is checked before memory is taken for the body.
"""

import math
import struct
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np

from jmsnas.errors import FrameError

VERSION = 1
MAX_TEXT_BYTES, MAX_BODY_BYTES, MAX_TENSORS, MAX_RANK = 4096, 16 << 20, 16, 6
WireDtype = Literal["f4", "f2", "u1"]
Dtype = WireDtype | Literal["i8"]
DTYPES: dict[Dtype, int] = {"f4": 4, "f2": 2, "u1": 1, "i8": 8}

_MAGIC = b"JMSN"
_HEADER = struct.Struct("<4sBBBBIIQ16sHxxI")
_TENSOR = struct.Struct("<BB6xdd6I")
_CODES: dict[int, Dtype] = dict(enumerate(DTYPES))
_NUMBERS = {dtype: code for code, dtype in _CODES.items()}
_MAX_SIZE, _MAX_EPOCH, _MAX_SCALE = 1 << 24, 1 << 53, 1e30
_NO_SIZES = (0,) * MAX_RANK
# Read at a time: a TLS record holds 16 KiB. Must hold the longest head of a frame.
_STAGED_BYTES = 32 << 10


class Kind(IntEnum):
    """Kind of a frame."""

    RUN = 1  # a request: the tensors that a part needs
    RESULT = 2  # its response: the output of the plan, and the trail
    ERROR = 3  # a status code and a text; of the whole connection where the call is 0
    CANCEL = 4  # the caller does not wait any more
    EXCHANGE = 5  # a tensor, to be timed
    TIMES = 6  # when it was received, and when this was sent
    HEARTBEAT = 7


_KINDS = {int(kind): kind for kind in Kind}


class TensorSpec(msgspec.Struct, frozen=True, gc=False):
    """Dtype and shape of a tensor on the wire; its values are `scale * number + zero`."""

    dtype: Dtype
    shape: tuple[int, ...]
    scale: float = 1.0
    zero: float = 0.0

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * DTYPES[self.dtype]


class Frame(msgspec.Struct, gc=False):
    """A frame; `DataLink` sets `call` and `left_s` when it is sent, `FrameReader` `body` when it has arrived.

    Attributes
    ----------
    kind, call
        Its kind; the number that its sender gave the request, which the response repeats.
    epoch, id
        The plan by which the request must be answered; 16 bytes that name the request on all devices.
    left_s
        Seconds until the deadline of the request.
    branch
        Index of the tensor among those that are joined at its destination; 0 where none are.
    tensors, text, body
        Descriptors, JSON, and the bytes of the tensors; `body` is None where it was refused, and skipped.
    """

    kind: Kind
    call: int = 0
    epoch: int = 0
    id: bytes = bytes(16)
    left_s: float = 0.0
    branch: int = 0
    tensors: tuple[TensorSpec, ...] = ()
    text: bytes = b""
    body: bytes | memoryview | None = b""


Admit = Callable[[Frame], bool]


def pack_head(frame: Frame) -> bytes:
    """Encode all of a frame but its body. Raises FrameError when the text is too long."""
    if len(frame.text) > MAX_TEXT_BYTES:
        raise FrameError(f"a text of {len(frame.text)} bytes: expected at most {MAX_TEXT_BYTES}")
    left_us = min(max(0, int(1e6 * frame.left_s)), 0xFFFFFFFF)
    head = _HEADER.pack(
        _MAGIC,
        VERSION,
        frame.kind,
        len(frame.tensors),
        frame.branch,
        frame.call,
        left_us,
        frame.epoch,
        frame.id,
        len(frame.text),
        len(frame.body or b""),
    )
    return head + _pack_tensors(frame.tensors) + frame.text


# The frames of a link have the same descriptors in all requests of a plan.
@lru_cache(maxsize=256)
def _pack_tensors(tensors: tuple[TensorSpec, ...]) -> bytes:
    packed = (
        _TENSOR.pack(
            _NUMBERS[tensor.dtype],
            len(tensor.shape),
            tensor.scale,
            tensor.zero,
            *tensor.shape,
            *_NO_SIZES[len(tensor.shape) :],
        )
        for tensor in tensors
    )
    return b"".join(packed)


class FrameReader:
    """Incremental parser of the frames of a connection, without input or output of its own.

    Write received bytes into `target()`, report them by `advance`, and take complete frames from `next`.
    `admit` is asked, when the head of a frame has arrived, whether memory is taken for its body.
    """

    def __init__(self, admit: Admit = lambda frame: True) -> None:
        self._admit = admit
        self._staged = memoryview(bytearray(_STAGED_BYTES))
        self._start, self._end = 0, 0
        self._frame: Frame | None = None
        self._body: memoryview | None = None  # None while a body is skipped
        self._filled, self._body_bytes = 0, 0

    def target(self) -> memoryview:
        """Return where the next received bytes go."""
        if self._frame is not None and self._body is not None:
            return self._body[self._filled :]
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == _STAGED_BYTES or self._start:
            rest = bytes(self._staged[self._start : self._end])
            self._staged[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        return self._staged[self._end :]

    def advance(self, count: int) -> None:
        """Count bytes that were written into `target()`."""
        if self._frame is not None and self._body is not None:
            self._filled += count
        else:
            self._end += count

    def next(self) -> Frame | None:
        """Return the next complete frame, or None until more bytes have arrived. Raises FrameError."""
        if self._frame is None and (self._end - self._start < _HEADER.size or not self._parse_head()):
            return None
        assert self._frame is not None
        if self._body is None:  # skipped
            taken = min(self._end - self._start, self._body_bytes - self._filled)
            self._start, self._filled = self._start + taken, self._filled + taken
        if self._filled < self._body_bytes:
            return None
        frame, self._frame = self._frame, None
        frame.body = self._body
        return frame

    def _parse_head(self) -> bool:
        """Parse the head of a frame, and take the part of its body that has arrived."""
        staged = self._staged[self._start : self._end]
        magic, version, kind, count, branch, call, left_us, epoch, request_id, text_bytes, body_bytes = (
            _HEADER.unpack_from(staged)
        )
        if magic != _MAGIC:
            raise FrameError("bytes that are no frame")
        if version != VERSION:
            raise FrameError(f"a frame of version {version}: expected {VERSION}, update jmsnas there or here")
        if kind not in _KINDS:
            raise _invalid("kind", kind)
        if count > MAX_TENSORS:
            raise _invalid("number of tensors", count)
        if text_bytes > MAX_TEXT_BYTES:
            raise _invalid("text length", text_bytes)
        if body_bytes > MAX_BODY_BYTES:
            raise _invalid("body length", body_bytes)
        if epoch > _MAX_EPOCH:
            raise _invalid("plan number", epoch)
        text_at = _HEADER.size + count * _TENSOR.size
        body_at = text_at + text_bytes
        if len(staged) < body_at:
            return False
        tensors = _tensors(bytes(staged[_HEADER.size : text_at]))
        if (expected := total_bytes(tensors)) != body_bytes:
            raise FrameError(f"tensors of {body_bytes} bytes: their dtypes and shapes need {expected}")
        text = bytes(staged[text_at:body_at])
        frame = Frame(_KINDS[kind], call, epoch, request_id, 1e-6 * left_us, branch, tensors, text)
        self._frame, self._body_bytes, self._filled = frame, body_bytes, 0
        self._start += body_at
        self._body = None
        if self._admit(frame):
            self._body = np.empty(body_bytes, np.uint8).data
            arrived = min(self._end - self._start, body_bytes)
            self._body[:arrived] = self._staged[self._start : self._start + arrived]
            self._start, self._filled = self._start + arrived, arrived
        return True


@lru_cache(maxsize=256)
def total_bytes(tensors: tuple[TensorSpec, ...]) -> int:
    """Return the bytes of all tensors."""
    return sum(tensor.size_bytes for tensor in tensors)


@lru_cache(maxsize=256)
def _tensors(descriptors: bytes) -> tuple[TensorSpec, ...]:
    """Decode descriptors. Raises FrameError."""
    return tuple(_tensor(*fields) for fields in _TENSOR.iter_unpack(descriptors))


def _tensor(code: int, rank: int, scale: float, zero: float, *sizes: int) -> TensorSpec:
    if code not in _CODES:
        raise _invalid("dtype", code)
    if rank > MAX_RANK:
        raise _invalid("rank", rank)
    shape = tuple(sizes[:rank])
    if not all(1 <= size < _MAX_SIZE for size in shape) or any(sizes[rank:]):
        raise _invalid("shape", [*sizes])
    if not (abs(scale) < _MAX_SCALE and abs(zero) < _MAX_SCALE):
        raise _invalid("scale", (scale, zero))
    return TensorSpec(_CODES[code], shape, scale, zero)


def _invalid(field: str, value: object) -> FrameError:
    return FrameError(f"a frame with an invalid {field}: {value}")
