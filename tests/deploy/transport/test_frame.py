import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.deploy.transport.frame import (
    MAX_HEADER_BYTES,
    TensorHeader,
    pack_message,
    unpack_message,
    unpack_tensor,
)
from jmsnas.errors import FrameError

ID = "0123456789abcdef0123456789abcdef"
_MALFORMED = "the header of a message is not valid: malformed JSON, or a missing or unknown field"
HEADER = TensorHeader(ID, 7, "f4", (1, 2, 3))


def tensor(**changes: object) -> bytes:
    fields = {"id": ID, "epoch": 7, "dtype": "f4", "shape": [1, 2, 3], **changes}
    return pack_message({name: value for name, value in fields.items() if value is not ...}, bytes(24))


def test_golden_bytes() -> None:
    # 4 bytes of length, big-endian: {"a":1} has 7; then the body.
    assert pack_message({"a": 1}, b"xy") == b'\x00\x00\x00\x07{"a":1}xy'
    fields, body = unpack_message(b'\x00\x00\x00\x07{"a":1}xy')
    assert fields == {"a": 1} and body == b"xy"


dtypes = st.sampled_from([("f4", 4), ("f2", 2), ("u1", 1), ("i8", 8)])
stops = st.tuples(st.just("pi4"), *[st.integers(0, 1 << 62)] * 3)


@given(
    dtypes,
    st.lists(st.integers(1, 4), max_size=6),
    st.floats(-1e20, 1e20),
    st.integers(0, 255),
    st.lists(stops, max_size=24),
)
def test_round_trip(
    dtype: tuple[str, int], shape: list[int], zero: float, branch: int, trail: list[tuple[str, int, int, int]]
) -> None:
    count = 1
    for size in shape:
        count *= size
    header = TensorHeader(ID, 3, dtype[0], tuple(shape), 0.5, zero, branch, tuple(trail))
    found, body = unpack_tensor(pack_message(header, bytes(count * dtype[1])))
    assert found == header and len(body) == count * dtype[1]


@given(st.binary(max_size=200))
def test_garbage_raises_frame_error(content: bytes) -> None:
    for message in (content, len(content).to_bytes(4, "big") + content):
        with contextlib.suppress(FrameError):
            unpack_tensor(message)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"\x00\x00", "a message of 2 bytes: expected 4 to 16777216"),
        (b"\x00\x00\x10\x01" + bytes(5000), "a header of 4097 bytes: expected at most 4096"),
        (b"\x00\x00\x00\x09{}", "a header of 9 bytes: expected at most 4096, in the message"),
        (b"\x00\x00\x00\x02{]", _MALFORMED),
        (b"\x00\x00\x00\x02[]", _MALFORMED),
        (b"\x00\x00\x0f\xa0" + b"[" * 4000, _MALFORMED),
        (b'\x00\x00\x00\x0b{"a":NaN}  ', _MALFORMED),
        (tensor(epoch=...), _MALFORMED),
        (tensor(more=1), _MALFORMED),
        (tensor(dtype="f8"), r"a wrong value at \$.dtype"),
        (tensor(dtype=["f4"]), r"a wrong value at \$.dtype"),
        (tensor(shape=[1] * 7), r"a wrong value at \$.shape"),
        (tensor(shape=[1, 0, 6]), r"a wrong value at \$.shape\[1\]"),
        (tensor(shape=[True, 2, 3]), r"a wrong value at \$.shape\[0\]"),
        (tensor(shape=[1, 2, 4]), "a tensor of 24 bytes: its dtype and shape need 32"),
        (tensor(id="../../etc/passwd"), r"a wrong value at \$.id"),
        (tensor(epoch=-1), r"a wrong value at \$.epoch"),
        (tensor(epoch=1.0), r"a wrong value at \$.epoch"),
        (tensor(branch=256), r"a wrong value at \$.branch"),
        (tensor(scale="1"), r"a wrong value at \$.scale"),
        (tensor(zero=1e40), r"a wrong value at \$.zero"),
        (tensor(trail=[["PI", 1, 2, 3]]), r"a wrong value at \$.trail\[0\]\[0\]"),
        (tensor(trail=[["pi", 1, 2]]), r"a wrong value at \$.trail\[0\]"),
        (tensor(trail=[["p", 1, 2, 3]] * 25), r"a wrong value at \$.trail"),
    ],
)
def test_invalid_messages_are_refused(message: bytes, error: str) -> None:
    with pytest.raises(FrameError, match=error):
        unpack_tensor(message)


def test_header_too_long() -> None:
    with pytest.raises(FrameError, match="a header of 5010 bytes: expected at most 4096"):
        pack_message({"a": "x" * 5002})
    longest = pack_message({"a": "x" * (MAX_HEADER_BYTES - 8)})
    assert json.loads(longest[4:]) == unpack_message(longest)[0]
