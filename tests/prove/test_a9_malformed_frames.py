"""A9: whatever comes as a frame, the one error is ours. The corpus is mutated, the seed printed."""

import random
import struct
import time

from prove.proof import Proof

from jmsnas.errors import FrameError
from jmsnas.frame import TensorHeader, pack, pack_tensor, unpack_tensor

_ID = "0123456789abcdef" * 2
CORPUS = (
    pack_tensor(TensorHeader(_ID, 3, "f4", (1, 2, 2)), bytes(16)),
    pack_tensor(TensorHeader(_ID, 3, "u1", (4,), 0.5, -1.0, 2), bytes(4)),
    pack_tensor(TensorHeader(_ID, 1, "f2", (2,), trail=(("pi4", 1, 2, 3), ("cloud", 4, 5, 6))), bytes(4)),
    pack({"id": _ID, "epoch": 1, "dtype": "i8", "shape": []}, bytes(8)),
)
_PIECES = (
    b"null",
    b"-1",
    b"1e999",
    b"[[[[",
    b'"\\u0000"',
    b"NaN",
    b"true",
    b"{}",
    b"9" * 300,
    b'"f4"',
    b"\xff",
)


def mutated(rng: random.Random) -> bytes:
    content = bytearray(rng.choice(CORPUS))
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


def test_only_our_error(proof: Proof) -> None:
    count, seed = proof.count(100_000, prove=2_000_000, long=100_000_000), time.time_ns() % 2**32
    rng, read, began = random.Random(seed), 0, time.monotonic()
    print("seed", seed)
    for _ in range(count):
        message = mutated(rng)
        try:
            unpack_tensor(message)
            read += 1
        except FrameError as error:
            assert "\n" not in str(error) and len(str(error)) < 200
    assert 0 < read < count
    rate = count / (time.monotonic() - began)
    proof.show(f"{count} mutated frames ({rate:.0f}/s, seed {seed}): {read} still whole, 0 other errors")
