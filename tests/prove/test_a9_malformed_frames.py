"""A9: a malformed frame raises a FrameError and nothing else; frames are mutated, the seed is printed."""

import time

from prove.fuzz import frames, on_both
from prove.proof import Proof

from jmsnas.deploy.transport.frame import TensorHeader, pack_message

_ID = "0123456789abcdef" * 2
CORPUS = (
    pack_message(TensorHeader(_ID, 3, "f4", (1, 2, 2)), bytes(16)),
    pack_message(TensorHeader(_ID, 3, "u1", (4,), 0.5, -1.0, 2), bytes(4)),
    pack_message(TensorHeader(_ID, 1, "f2", (2,), trail=(("pi4", 1, 2, 3), ("cloud", 4, 5, 6))), bytes(4)),
    pack_message({"id": _ID, "epoch": 1, "dtype": "i8", "shape": []}, bytes(8)),
)


def test_only_our_error(proof: Proof) -> None:
    count, seed = proof.count(100_000, prove=5_000_000, long=100_000_000), time.time_ns() % 2**32
    print("seed", seed)
    began = time.monotonic()
    read = on_both(frames, seed, count, CORPUS)
    assert 0 < read < count
    rate = count / (time.monotonic() - began)
    proof.show(f"{count:,} mutated frames ({rate:,.0f}/s, seed {seed}): {read:,} still valid, 0 other errors")
