"""Fuzz frames, manifests and settings: mutated input is read, or refused by a JmsnasError.

`on_both` runs large counts on two cores, each half with its own seed.
"""

import multiprocessing
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from jmsnas.deploy.parts.manifest import parse_manifest
from jmsnas.deploy.transport.devices_file import devices_from_toml
from jmsnas.deploy.transport.frame import unpack_tensor
from jmsnas.errors import DeviceError, FrameError, PartError
from jmsnas.files import parse_toml

_PIECES = (
    b"null", b"-1", b"1e999", b"[[[[", b"[" * 50, b'"\\u0000"', b'"../../x"', b"NaN", b"true", b"{}",
    b"9" * 300, b'"f4"', b"\xff", b'":', b"\xc2\xb2",
)  # fmt: skip
Work = Callable[[int, int, Sequence[bytes]], int]
_ALONE = 100_000


def on_both(work: Work, seed: int, count: int, corpus: Sequence[bytes]) -> int:
    """Try `count` mutations, on two cores where they are many, and return how many could be read."""
    if count < _ALONE:
        return work(seed, count, corpus)
    halves = [(seed, count // 2, corpus), (seed + 1, count - count // 2, corpus)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return sum(pool.starmap(work, halves))


def frames(seed: int, count: int, corpus: Sequence[bytes]) -> int:
    rng, read = random.Random(seed), 0
    for _ in range(count):
        try:
            unpack_tensor(_frame(rng, rng.choice(corpus)))
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


def _frame(rng: random.Random, honest: bytes) -> bytes:
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
