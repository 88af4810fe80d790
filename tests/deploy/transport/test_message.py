import contextlib
import json
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from jmsnas.deploy.transport.message import (
    MAX_HEADER_BYTES,
    DeviceName,
    Epoch,
    pack_message,
    unpack_as,
    unpack_message,
)
from jmsnas.errors import FrameError

_MALFORMED = "the header of a message is not valid: malformed JSON, or a missing or unknown field"


class Header(msgspec.Struct, forbid_unknown_fields=True):
    """A header with a name, a plan number, and sizes."""

    name: DeviceName
    epoch: Epoch
    sizes: Annotated[tuple[Annotated[int, Meta(ge=0, le=9)], ...], Meta(max_length=3)] = ()


def message(**changes: object) -> bytes:
    fields = {"name": "pi4", "epoch": 7, **changes}
    return pack_message({name: value for name, value in fields.items() if value is not ...}, b"body")


def test_golden_bytes() -> None:
    # 4 bytes of length, big-endian: {"a":1} has 7; then the body.
    assert pack_message({"a": 1}, b"xy") == b'\x00\x00\x00\x07{"a":1}xy'
    fields, body = unpack_message(b'\x00\x00\x00\x07{"a":1}xy')
    assert fields == {"a": 1} and body == b"xy"


@given(
    st.text("az09_-", min_size=1, max_size=63).map("p{}".format),
    st.integers(0, 1 << 53),
    st.lists(st.integers(0, 9), max_size=3),
    st.binary(max_size=100),
)
def test_round_trip(name: str, epoch: int, sizes: list[int], content: bytes) -> None:
    header = Header(name, epoch, tuple(sizes))
    found, body = unpack_as(pack_message(header, content), Header)
    assert found == header and body == content


@given(st.binary(max_size=200))
def test_garbage_raises_frame_error(content: bytes) -> None:
    for garbage in (content, len(content).to_bytes(4, "big") + content):
        with contextlib.suppress(FrameError):
            unpack_as(garbage, Header)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"\x00\x00", "a message of 2 bytes: expected 4 to 16777216"),
        (b"\x00\x00\x10\x01" + bytes(5000), "a header of 4097 bytes: expected at most 4096"),
        (b"\x00\x00\x00\x09{}", "a header of 9 bytes: expected at most 4096, in the message"),
        (b"\x00\x00\x00\x02{]", _MALFORMED),
        (b"\x00\x00\x00\x02[]", _MALFORMED),
        (b"\x00\x00\x0f\xa0" + b"[" * 4000, _MALFORMED),
        (b'\x00\x00\x00\x0b{"a":NaN}  ', _MALFORMED),
        (message(epoch=...), _MALFORMED),
        (message(more=1), _MALFORMED),
        (message(name="../../etc/passwd"), r"a wrong value at \$.name"),
        (message(name=["pi4"]), r"a wrong value at \$.name"),
        (message(epoch=-1), r"a wrong value at \$.epoch"),
        (message(epoch=1.0), r"a wrong value at \$.epoch"),
        (message(epoch=True), r"a wrong value at \$.epoch"),
        (message(epoch=(1 << 53) + 1), r"a wrong value at \$.epoch"),
        (message(sizes=[1, 2, 3, 4]), r"a wrong value at \$.sizes"),
        (message(sizes=[1, 10]), r"a wrong value at \$.sizes\[1\]"),
    ],
)
def test_invalid_messages_are_refused(content: bytes, error: str) -> None:
    with pytest.raises(FrameError, match=error):
        unpack_as(content, Header)


def test_header_too_long() -> None:
    with pytest.raises(FrameError, match="a header of 5010 bytes: expected at most 4096"):
        pack_message({"a": "x" * 5002})
    longest = pack_message({"a": "x" * (MAX_HEADER_BYTES - 8)})
    assert json.loads(longest[4:]) == unpack_message(longest)[0]
