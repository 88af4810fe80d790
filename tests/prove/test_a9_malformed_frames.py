"""A9: a malformed frame or message raises a FrameError and nothing else; the seed is printed."""

import time
from collections.abc import Sequence

import grpc
import numpy as np
from prove.fuzz import EXPECTED, ID, Work, frames, messages, on_both
from prove.proof import Proof

from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec, pack_head
from jmsnas.deploy.transport.message import pack_message
from jmsnas.deploy.transport.refusal import RequestRefusedError, error_text
from jmsnas.deploy.transport.run_response import DeviceSpan, RunResponse, parse_run_response, response_frame


def packed(frame: Frame) -> bytes:
    return pack_head(frame) + bytes(frame.body or b"")


def run(*tensors: TensorSpec, branch: int = 0) -> bytes:
    body = bytes(sum(tensor.size_bytes for tensor in tensors))
    return packed(Frame(Kind.RUN, 7, EXPECTED.epoch, ID, 0.25, branch, tensors, body=body))


TRAIL = (DeviceSpan("pi4", 1, 2, 3), DeviceSpan("cloud", 4, 5, 6))
RESULT = response_frame(RunResponse(TRAIL, (1, 10), np.ones(10, np.float32).tobytes()), 7, EXPECTED.epoch, ID)
LOST = RequestRefusedError(grpc.StatusCode.UNAVAILABLE, "device cloud: UNAVAILABLE")
FRAMES = (
    run(TensorSpec("f4", (1, 1, 8, 8))),
    run(TensorSpec("u1", (4,), 0.5, -1.0), branch=2),
    run(TensorSpec("f2", (2,)), TensorSpec("i8", ()), TensorSpec("u1", (3, 1, 1, 1, 1, 2))),
    packed(RESULT),
    packed(Frame(Kind.ERROR, 7, EXPECTED.epoch, ID, text=error_text(LOST))),
    packed(Frame(Kind.EXCHANGE, 1, tensors=(TensorSpec("f4", (1,)),), body=bytes(4))),
    packed(Frame(Kind.TIMES, 1, text=b'{"received":1,"sent":2}')),
    packed(Frame(Kind.CANCEL, 7)),
    packed(Frame(Kind.HEARTBEAT)),
)
MESSAGES = (
    pack_message({"signature": "ab" * 64}, bytes(16)),
    pack_message({"epoch": 3}),
    pack_message({"address": "10.0.0.1:7071", "name": "pi4", "fingerprint": "ab" * 32, "sizes": [1, 512]}),
    pack_message({"missing": ["ab" * 32, "cd" * 32]}),
    pack_message({"id": "0123456789abcdef", "epoch": 1, "dtype": "i8", "shape": []}, bytes(8)),
)


def test_only_our_error(proof: Proof) -> None:
    assert parse_run_response(RESULT, EXPECTED)[0].trail == TRAIL
    fuzz(proof, frames, "frames", FRAMES)


def test_messages_of_the_control_plane(proof: Proof) -> None:
    fuzz(proof, messages, "messages", MESSAGES)


def fuzz(proof: Proof, work: Work, what: str, corpus: Sequence[bytes]) -> None:
    count, seed = proof.count(100_000, prove=5_000_000, long=100_000_000), time.time_ns() % 2**32
    print("seed", seed)
    began = time.monotonic()
    read = on_both(work, seed, count, corpus)
    assert 0 < read < count
    rate = count / (time.monotonic() - began)
    proof.show(f"{count:,} mutated {what} ({rate:,.0f}/s, seed {seed}): {read:,} still valid, 0 other errors")
