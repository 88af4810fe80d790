import contextlib
import math
import struct
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jmsnas.deploy.transport.frame import (
    DTYPES,
    MAX_BODY_BYTES,
    MAX_TENSORS,
    MAX_TEXT_BYTES,
    Frame,
    FrameReader,
    Kind,
    TensorSpec,
    pack_head,
)
from jmsnas.errors import FrameError

ID = bytes(range(16))
# Where the fields begin: of the header, and of a descriptor behind its 48 bytes.
MAGIC, VERSION, KIND, COUNT, BRANCH, CALL, LEFT, EPOCH, NAME, TEXT_BYTES, BODY_BYTES = (
    *(0, 4, 5, 6, 7, 8, 12, 16, 24, 40, 44),
)
DTYPE, RANK, SCALE, ZERO, SIZES = 48, 49, 56, 64, 72


def packed(frame: Frame) -> bytes:
    return pack_head(frame) + bytes(frame.body or b"")


def run_frame(*tensors: TensorSpec, text: bytes = b"", fill: int = 7) -> Frame:
    """Build a request whose bodies are filled with a byte."""
    body = bytes([fill]) * sum(tensor.size_bytes for tensor in tensors)
    return Frame(Kind.RUN, 5, 9, ID, 1.5, 2, tensors, text, body)


def read(chunks: Iterable[bytes], admit: Callable[[Frame], bool] = lambda frame: True) -> list[Frame]:
    """Feed chunks to a reader, as many bytes at a time as it asks for; return the frames."""
    reader, found = FrameReader(admit), list[Frame]()
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            target = reader.target()
            assert len(target)
            count = min(len(rest), len(target))
            target[:count] = rest[:count]
            rest = rest[count:]
            reader.advance(count)
            while (frame := reader.next()) is not None:
                found.append(frame)
    assert reader.next() is None
    return found


def same(found: Frame, sent: Frame) -> bool:
    """Whether a frame is the one that was sent; the time left is rounded to microseconds."""
    close = math.isclose(found.left_s, sent.left_s, abs_tol=2e-6)
    body = bytes(found.body or b"")
    return close and replace(found, left_s=sent.left_s, body=body) == replace(
        sent, body=bytes(sent.body or b"")
    )


# One tensor of 2 x 3 float32, and a text of 4 letters.
ONE = run_frame(TensorSpec("f4", (2, 3), 0.5, -1.0), text=b'"ab"')
TWO = run_frame(TensorSpec("u1", (3,)), TensorSpec("i8", ()), fill=9)
BARE = Frame(Kind.HEARTBEAT)


def test_golden_bytes() -> None:
    frame = Frame(Kind.RUN, 5, 9, ID, 1.5, 2, (TensorSpec("u1", (2, 1), 0.5, -1.0),), b"{}", b"xy")
    header = b"JMSN" + bytes([1, 1, 1, 2]) + struct.pack("<IIQ", 5, 1_500_000, 9) + ID
    header += struct.pack("<HHI", 2, 0, 2)
    descriptor = (
        bytes([2, 2]) + bytes(6) + struct.pack("<dd", 0.5, -1.0) + struct.pack("<6I", 2, 1, 0, 0, 0, 0)
    )
    assert len(header) == len(descriptor) == 48
    assert packed(frame) == header + descriptor + b"{}" + b"xy"
    (found,) = read([header + descriptor + b"{}xy"])
    assert found == frame


specs = st.builds(
    TensorSpec,
    st.sampled_from(list(DTYPES)),
    st.lists(st.integers(1, 3), max_size=6).map(tuple),
    st.floats(-1e20, 1e20),
    st.floats(-1e20, 1e20),
)
frames = st.builds(
    lambda kind, call, epoch, name, left_s, branch, tensors, text, fill: Frame(
        *(kind, call, epoch, name, left_s, branch, tuple(tensors), text),
        bytes([fill]) * sum(tensor.size_bytes for tensor in tensors),
    ),
    st.sampled_from(Kind),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 1 << 53),
    st.binary(min_size=16, max_size=16),
    st.floats(0, 4000),
    st.integers(0, 255),
    st.lists(specs, max_size=4),
    st.binary(max_size=50),
    st.integers(0, 255),
)


@given(st.lists(frames, min_size=1, max_size=3), st.data())
def test_round_trip_in_chunks_of_any_size(sent: list[Frame], data: st.DataObject) -> None:
    whole = b"".join(map(packed, sent))
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=5).map(sorted))
    found = read(whole[start:end] for start, end in pairwise([0, *cuts, len(whole)]))
    assert len(found) == len(sent) and all(map(same, found, sent))


def test_frames_cut_at_every_byte() -> None:
    sent = [ONE, BARE, TWO]
    whole = b"".join(map(packed, sent))
    for cut in range(len(whole) + 1):
        found = read([whole[:cut], whole[cut:]])
        assert len(found) == 3 and all(map(same, found, sent))
    assert all(map(same, read(whole[n : n + 1] for n in range(len(whole))), sent))


def test_long_frames_and_many_short_ones_in_one_chunk() -> None:
    sent = [run_frame(TensorSpec("f4", (1, 512, 300)), fill=n) for n in (1, 2)]
    sent += [BARE, ONE] * 1000 + sent
    found = read([b"".join(map(packed, sent))])
    assert len(found) == len(sent) and all(map(same, found, sent))


@pytest.mark.parametrize("chunk_bytes", [1, 7, 48, 1000, 1 << 20])
def test_a_refused_body_is_skipped_and_the_next_frame_is_read(chunk_bytes: int) -> None:
    large = run_frame(TensorSpec("f4", (25, 1000)), text=b"x" * 100)
    whole = b"".join(map(packed, [ONE, large, TWO, large, BARE]))
    admitted: list[Frame] = []

    def admit(frame: Frame) -> bool:
        admitted.append(frame)
        return sum(tensor.size_bytes for tensor in frame.tensors) < 1000

    found = read((whole[n : n + chunk_bytes] for n in range(0, len(whole), chunk_bytes)), admit)
    assert [frame.body is None for frame in found] == [False, True, False, True, False]
    assert same(found[0], ONE) and same(found[2], TWO) and same(found[4], BARE)
    assert [frame.kind for frame in admitted] == [frame.kind for frame in found]  # each was asked for once
    assert replace(found[1], body=b"") == replace(large, body=b"")


def changed(at: int, layout: str, *values: Any) -> bytes:
    """Return the bytes of `ONE` with other values of a field."""
    content = bytearray(packed(ONE))
    struct.pack_into(f"<{layout}", content, at, *values)
    return bytes(content)


INVALID = [
    (changed(MAGIC, "4s", b"HTTP"), "^bytes that are no frame$"),
    (changed(MAGIC, "4s", b"jMSN"), "^bytes that are no frame$"),
    (changed(VERSION, "B", 2), "^a frame of version 2: expected 1, update jmsnas there or here$"),
    (changed(VERSION, "B", 0), "^a frame of version 0: expected 1"),
    (changed(KIND, "B", 0), "a frame with an invalid kind: 0"),
    (changed(KIND, "B", 8), "a frame with an invalid kind: 8"),
    (changed(COUNT, "B", MAX_TENSORS + 1), "a frame with an invalid number of tensors: 17"),
    (changed(COUNT, "B", 255), "a frame with an invalid number of tensors: 255"),
    (changed(COUNT, "B", 0), "tensors of 24 bytes: their dtypes and shapes need 0"),
    (changed(EPOCH, "Q", (1 << 53) + 1), "a frame with an invalid plan number: 9007199254740993"),
    (changed(EPOCH, "Q", (1 << 64) - 1), "a frame with an invalid plan number"),
    (changed(TEXT_BYTES, "H", MAX_TEXT_BYTES + 1), "a frame with an invalid text length: 4097"),
    (changed(TEXT_BYTES, "H", 0xFFFF), "a frame with an invalid text length: 65535"),
    (changed(BODY_BYTES, "I", 0xFFFFFFFF), "a frame with an invalid body length: 4294967295"),
    (changed(BODY_BYTES, "I", MAX_BODY_BYTES + 1), "a frame with an invalid body length: 16777217"),
    (changed(BODY_BYTES, "I", 23), "tensors of 23 bytes: their dtypes and shapes need 24"),
    (changed(BODY_BYTES, "I", 25), "tensors of 25 bytes: their dtypes and shapes need 24"),
    (changed(BODY_BYTES, "I", 0), "tensors of 0 bytes: their dtypes and shapes need 24"),
    (changed(DTYPE, "B", 4), "a frame with an invalid dtype: 4"),
    (changed(DTYPE, "B", 3), "tensors of 24 bytes: their dtypes and shapes need 48"),
    (changed(RANK, "B", 7), "a frame with an invalid rank: 7"),
    (changed(RANK, "B", 1), r"a frame with an invalid shape: \[2, 3, 0, 0, 0, 0\]"),
    (changed(RANK, "B", 3), r"a frame with an invalid shape: \[2, 3, 0, 0, 0, 0\]"),
    (changed(SIZES, "I", 0), "a frame with an invalid shape"),
    (changed(SIZES, "I", 1 << 24), "a frame with an invalid shape"),
    (changed(SIZES, "I", 0xFFFFFFFF), "a frame with an invalid shape"),
    (changed(SIZES, "II", (1 << 24) - 1, (1 << 24) - 1), "need 1125899772624900"),
    (changed(SIZES + 8, "I", 1), "a frame with an invalid shape"),
    *(
        (changed(at, "d", value), "a frame with an invalid scale")
        for at in (SCALE, ZERO)
        for value in (math.nan, math.inf, -math.inf, 1e31)
    ),
]


@pytest.mark.parametrize(("content", "error"), INVALID)
def test_invalid_frames_are_refused_before_memory_is_taken(content: bytes, error: str) -> None:
    admitted: list[Frame] = []

    def admit(frame: Frame) -> bool:
        admitted.append(frame)
        return True

    # Behind a valid frame, and without their body: the head is enough.
    head = content[: -len(ONE.body or b"")]
    reader_chunks = [packed(TWO), head]
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match=error):
            read(reader_chunks, admit)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(admitted) == 1 and peak_bytes < 1 << 20
    with pytest.raises(FrameError, match=error):
        read((content[n : n + 1] for n in range(len(content))), admit)


def test_a_body_takes_no_memory_until_it_is_admitted() -> None:
    huge = replace(run_frame(TensorSpec("f4", (1 << 22,))), body=bytes(MAX_BODY_BYTES))
    head = pack_head(huge)

    def peak_bytes(admit: bool) -> int:
        tracemalloc.start()
        try:
            assert read([head], lambda frame: admit) == []
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_bytes(False) < 1 << 20 < MAX_BODY_BYTES <= peak_bytes(True)


@given(st.binary(max_size=300))
def test_garbage_raises_frame_error(content: bytes) -> None:
    for garbage in (content, packed(BARE)[:6] + content, packed(ONE)[:48] + content):
        with contextlib.suppress(FrameError):
            read([garbage])


@given(st.integers(0, len(packed(ONE)) - 1), st.integers(0, 255))
def test_any_byte_of_a_frame_may_be_another(at: int, value: int) -> None:
    content = bytearray(packed(ONE))
    content[at] = value
    with contextlib.suppress(FrameError):
        for found in read([bytes(content)]):
            assert len(found.body or b"") == sum(tensor.size_bytes for tensor in found.tensors)


def test_a_text_too_long() -> None:
    with pytest.raises(FrameError, match="a text of 4097 bytes: expected at most 4096"):
        pack_head(Frame(Kind.ERROR, text=b"x" * (MAX_TEXT_BYTES + 1)))
    longest = Frame(Kind.ERROR, text=b"x" * MAX_TEXT_BYTES)
    assert read([packed(longest)]) == [longest]


def test_the_most_and_largest_tensors() -> None:
    most = run_frame(*[TensorSpec("f2", (1,) * 6)] * MAX_TENSORS, text=b"x" * MAX_TEXT_BYTES)
    assert same(read([packed(most)])[0], most)


@pytest.mark.parametrize(("left_s", "sent_s"), [(-5.0, 0.0), (1e9, 0xFFFFFFFF * 1e-6), (0.25, 0.25)])
def test_the_time_left_is_kept_in_range(left_s: float, sent_s: float) -> None:
    (found,) = read([packed(Frame(Kind.RUN, left_s=left_s))])
    assert found.left_s == pytest.approx(sent_s)
