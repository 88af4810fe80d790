"""Fuzz frames, messages, manifests and settings: mutated input is read, or refused by a JmsnasError.

`on_both` runs large counts on two cores, each half with its own seed.
"""

import multiprocessing
import random
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from jmsnas.deploy.agent import service
from jmsnas.deploy.parts.manifest import parse_manifest
from jmsnas.deploy.transport.devices_file import devices_from_toml
from jmsnas.deploy.transport.encoding import decode_tensor, encode_tensor
from jmsnas.deploy.transport.frame import Frame, FrameReader, Kind
from jmsnas.deploy.transport.message import unpack_as
from jmsnas.deploy.transport.refusal import parse_error
from jmsnas.deploy.transport.responses import ExchangeTimes, MissingBlobs, ResponseError
from jmsnas.deploy.transport.run_response import ExpectedResponse, parse_run_response
from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import DeviceError, FrameError, PartError
from jmsnas.files import parse_toml

_PIECES = (
    b"null", b"-1", b"1e999", b"[[[[", b"[" * 50, b'"\\u0000"', b'"../../x"', b"NaN", b"true", b"{}",
    b"9" * 300, b'"f4"', b"\xff", b'":', b"\xc2\xb2",
)  # fmt: skip
# Start and length of every field in the head of a frame, and of its first descriptor.
_FIELDS = (
    (0, 4), (4, 1), (5, 1), (6, 1), (7, 1), (8, 4), (12, 4), (16, 8), (24, 16), (40, 2), (42, 2), (44, 4),
    (48, 1), (49, 1), (50, 6), (56, 8), (64, 8), (72, 4), (76, 4), (80, 4), (84, 4), (88, 4), (92, 4),
)  # fmt: skip
_SCALES = tuple(struct.pack("<d", scale) for scale in (float("nan"), float("inf"), -1e308, 1e31, -9e29))
_NUMBERS = (0, 1, 2, 5, 16, 17, 255, 4096, 4097, 1 << 24, (1 << 24) + 1, (1 << 32) - 1, 1 << 53, 1 << 63)
Work = Callable[[int, int, Sequence[bytes]], int]
_ALONE = 100_000
# More than a frame of the corpus needs: a reader that takes memory by a false length exceeds it.
_MOST_BYTES = 1 << 16
_HEADERS = (
    *(service._Signed, service._StageRequest, service._LinkRequest, service._PutRequest),
    *(MissingBlobs, dict),
)
ID = bytes(range(16))
EXPECTED = ExpectedResponse(ID, 3, ("pi4", "cloud"), (1, 10))


def on_both(work: Work, seed: int, count: int, corpus: Sequence[bytes]) -> int:
    """Try `count` mutations, on two cores where they are many, and return how many could be read."""
    if count < _ALONE:
        return work(seed, count, corpus)
    halves = [(seed, count // 2, corpus), (seed + 1, count - count // 2, corpus)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return sum(pool.starmap(work, halves))


def frames(seed: int, count: int, corpus: Sequence[bytes]) -> int:
    """Feed mutated frames to readers, by chunks of random size; count those that could be read."""
    rng, read, tried = random.Random(seed), 0, 0
    warnings.simplefilter("error")
    while tried < count:
        # Several frames of one connection, of which any may be mutated, and the last may be cut.
        several = 1 + int(rng.random() * 3)
        stream = b"".join([_frame(rng, rng.choice(corpus)) for _ in range(several)])
        tried += several
        try:
            for frame in _feed(rng, FrameReader(_admit), stream):
                _use(frame)
                read += 1
        except FrameError as error:
            assert "\n" not in str(error) and len(str(error)) < 200
    return read


def _admit(frame: Frame) -> bool:
    return 0 < sum(tensor.size_bytes for tensor in frame.tensors) <= _MOST_BYTES


def _feed(rng: random.Random, reader: FrameReader, stream: bytes) -> Iterator[Frame]:
    """Write a stream into a reader, and give its frames."""
    at, chunk = 0, len(stream) if rng.random() < 0.9 else 1 + int(rng.random() * 60)
    while at < len(stream):
        target = reader.target()
        part = stream[at : at + min(chunk, len(target))]
        assert part, "a reader that waits for nothing"
        target[: len(part)] = part
        reader.advance(len(part))
        at += len(part)
        while (frame := reader.next()) is not None:
            yield frame


def _use(frame: Frame) -> None:
    """Read the content of a frame, as its receiver does."""
    size_bytes = sum(tensor.size_bytes for tensor in frame.tensors)
    if frame.body is None:
        assert not 0 < size_bytes <= _MOST_BYTES
        return
    assert len(frame.body) == size_bytes <= _MOST_BYTES
    with suppress(FrameError, ResponseError):
        if frame.kind is Kind.ERROR:
            parse_error(frame.text)
        elif frame.kind is Kind.RESULT:
            parse_run_response(frame, EXPECTED)
        elif frame.kind is Kind.TIMES:
            decode_json(frame.text, ExchangeTimes, FrameError, "the times of an exchange")
        elif frame.tensors:
            tensor = frame.tensors[0]
            x = decode_tensor(tensor, frame.body[: tensor.size_bytes])
            encode_tensor(x, "u1", tensor.scale, tensor.zero)


def _frame(rng: random.Random, honest: bytes) -> bytes:
    content = bytearray(honest)
    for _ in range(int(rng.random() * 3)):
        at, kind = int(rng.random() * len(content)), int(rng.random() * 6)
        if kind == 0:
            content[at] = int(rng.random() * 256)
        elif kind == 1:  # a field of the header or of the first descriptor
            start, length = rng.choice(_FIELDS)
            number = rng.choice(_NUMBERS) & ((1 << 8 * length) - 1)
            content[start : start + length] = number.to_bytes(length, "little")
        elif kind == 2:
            del content[at + 1 :]
        elif kind == 3:
            content[at:at] = rng.choice(_PIECES)
        elif kind == 4:
            content[at : at + int(rng.random() * 64)] = rng.choice(_PIECES)
        else:
            content[56:64] = rng.choice(_SCALES)
    return bytes(content)


def messages(seed: int, count: int, corpus: Sequence[bytes]) -> int:
    """Parse mutated messages of the control plane; count those that could be read."""
    rng, read = random.Random(seed), 0
    for _ in range(count):
        try:
            unpack_as(_message(rng, rng.choice(corpus)), rng.choice(_HEADERS))
            read += 1
        except FrameError as error:
            assert "\n" not in str(error) and len(str(error)) < 200
    return read


def manifests(seed: int, count: int, corpus: Sequence[bytes]) -> int:
    rng, read = random.Random(seed), 0
    for _ in range(count):
        try:
            parse_manifest(_text(rng, rng.choice(corpus), 12))
            read += 1
        except PartError as error:
            assert len(str(error)) < 200
    return read


def settings(seed: int, count: int, corpus: Sequence[bytes]) -> int:
    rng, read, path = random.Random(seed), 0, Path("devices.toml")
    for _ in range(count):
        try:
            devices_from_toml(parse_toml(_text(rng, rng.choice(corpus), 6), path, DeviceError), path)
            read += 1
        except DeviceError as error:
            assert "\n" not in str(error)
    return read


def _text(rng: random.Random, honest: bytes, most: int) -> bytes:
    content = bytearray(honest)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(content))
        if rng.randrange(2):
            content[at] = rng.randrange(256)
        else:
            content[at : at + rng.randrange(most)] = rng.choice(_PIECES)
    return bytes(content)


def _message(rng: random.Random, honest: bytes) -> bytes:
    content = bytearray(honest)
    for _ in range(rng.randrange(1, 5)):
        at, kind = rng.randrange(len(content)), rng.randrange(5)
        if kind == 0:
            content[at] = rng.randrange(256)
        elif kind == 1:
            content[at : at + rng.randrange(8)] = rng.choice(_PIECES)
        elif kind == 2:
            del content[at:]
            content += bytes(1)
        elif kind == 3:
            content[:4] = struct.pack(">I", rng.choice((0, 1, len(content), 4096, 4097, 2**32 - 1)))
        else:
            content[4:4] = rng.choice(_PIECES)
    return bytes(content)
