import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from msgspec.structs import astuple, replace

from jmsnas.deploy.transport.frame import Kind, TensorSpec
from jmsnas.deploy.transport.run_response import (
    DeviceSpan,
    ExpectedResponse,
    RunResponse,
    is_finite,
    parse_run_response,
    response_frame,
)
from jmsnas.errors import DeployError

ID = bytes.fromhex("0123456789abcdef" * 2)
MS = 1_000_000
EXPECTED = ExpectedResponse(ID, 7, ("pi4", "cloud"), (1, 3), 0.05)
TRAIL = [["pi4", 10 * MS, 11 * MS, 12 * MS], ["cloud", 900, 901, 5 * MS]]
LOGITS = np.array([[1.0, -2.0, 0.5]], np.float32)
HONEST = response_frame(
    RunResponse(tuple(DeviceSpan(*span) for span in TRAIL), (1, 3), LOGITS.tobytes()), 5, 7, ID
)


def respond(change: dict[str, Any], body: Any = LOGITS) -> Any:
    """Parse the honest frame with other fields, or another trail or tensor, and another body."""
    fields = dict(change)
    if "trail" in fields:
        fields["text"] = msgspec.json.encode(fields.pop("trail"))
    if "tensor" in fields:
        fields["tensors"] = (fields.pop("tensor"),)
    frame = replace(HONEST, body=body if body is None else body.tobytes())
    return parse_run_response(replace(frame, **fields), EXPECTED)


def test_a_valid_response() -> None:
    assert HONEST.kind is Kind.RESULT and HONEST.call == 5 and HONEST.tensors == (TensorSpec("f4", (1, 3)),)
    response, logits = respond({})
    np.testing.assert_array_equal(logits, LOGITS)
    assert [list(astuple(span)) for span in response.trail] == TRAIL and response.shape == (1, 3)
    assert bytes(response.body) == LOGITS.tobytes()


@pytest.mark.parametrize(
    ("change", "body", "fault"),
    [
        (
            {"id": b"\xff" * 16},
            LOGITS,
            "a response to a different request: got request ffffffff of plan 7, expected",
        ),
        ({"epoch": 6}, LOGITS, "a response to a different request: got request 01234567 of plan 6"),
        (
            {"tensor": TensorSpec("i8", (1, 3))},
            LOGITS.astype("<i8"),
            r"an output in i8 of shape \(1, 3\): expected f4",
        ),
        ({"tensor": TensorSpec("f2", (1, 3))}, LOGITS.astype("<f2"), "an output in f2"),
        ({"tensor": TensorSpec("u1", (1, 3))}, LOGITS.astype("u1"), "an output in u1"),
        ({"tensor": TensorSpec("f4", (1, 3), 2.0)}, LOGITS, "an output in f4"),
        ({"tensor": TensorSpec("f4", (1, 3), 1.0, 0.5)}, LOGITS, "an output in f4"),
        ({"tensors": ()}, LOGITS[:0], "a frame of kind 2 with 0 tensors"),
        ({"tensors": HONEST.tensors * 2}, LOGITS, "a frame of kind 2 with 2 tensors"),
        ({"kind": Kind.TIMES}, LOGITS, "a frame of kind 6 with 1 tensors"),
        ({"kind": Kind.RUN}, LOGITS, "a frame of kind 1 with 1 tensors"),
        ({}, None, "an output in f4 of shape"),
        ({"tensor": TensorSpec("f4", (3, 1))}, LOGITS, r"of shape \(3, 1\): expected f4 of shape \(1, 3\)"),
        ({"tensor": TensorSpec("f4", (1, 2))}, LOGITS[:, :2], r"of shape \(1, 2\)"),
        ({"tensor": TensorSpec("f4", (3,))}, LOGITS, r"of shape \(3,\)"),
        ({"tensor": TensorSpec("f4", ())}, LOGITS[0, :1], r"of shape \(\)"),
        ({}, np.float32([[1, math.nan, 2]]), "a number that is not finite"),
        ({}, np.float32([[1, math.inf, -math.inf]]), "a number that is not finite"),
        ({"trail": []}, LOGITS, "a trail of none: expected pi4, cloud"),
        ({"trail": TRAIL[:1]}, LOGITS, "a trail of pi4: expected pi4, cloud"),
        ({"trail": TRAIL[::-1]}, LOGITS, "a trail of cloud, pi4"),
        ({"trail": [*TRAIL, TRAIL[1]]}, LOGITS, "a trail of pi4, cloud, cloud"),
        ({"trail": [TRAIL[0], ["jetson", 1, 2, 3]]}, LOGITS, "a trail of pi4, jetson"),
        ({"trail": [TRAIL[0], ["cloud", 3, 2, 4]]}, LOGITS, "times of device cloud out of order"),
        ({"trail": [TRAIL[0], ["cloud", 1, 5, 4]]}, LOGITS, "times of device cloud out of order"),
        ({"trail": [["pi4", 0, 0, 3600_000 * MS], TRAIL[1]]}, LOGITS, "3.6e.03 s on device pi4"),
        ({"trail": [["pi4", 0, 0, 60 * MS], TRAIL[1]]}, LOGITS, "0.06 s on device pi4"),
        ({"trail": [["pi4", -1, 0, 1], TRAIL[1]]}, LOGITS, "malformed response"),
        ({"trail": [["\x1b[2J", 0, 0, 1], TRAIL[1]]}, LOGITS, "malformed response"),
        ({"trail": [["pi4", True, 1, 1], TRAIL[1]]}, LOGITS, "malformed response"),
        ({"trail": [["pi4", 0, 1, 1 << 63], TRAIL[1]]}, LOGITS, "malformed response"),
        ({"trail": [TRAIL[0]] * 25}, LOGITS, "malformed response"),
        ({"trail": {"pi4": 1}}, LOGITS, "malformed response"),
        ({"text": b""}, LOGITS, "malformed response"),
        ({"text": b"[" * 4000}, LOGITS, "malformed response"),
    ],
)
def test_a_false_response_is_one_line(change: dict[str, Any], body: Any, fault: str) -> None:
    with pytest.raises(DeployError, match=f"^device pi4.*{fault}") as refused:
        respond(change, body)
    assert str(refused.value).isprintable()


def test_a_repeated_request_may_have_taken_longer_before() -> None:
    expected = ExpectedResponse(ID, 7, ("pi4", "cloud"), (1, 3))
    trail = [["pi4", 0, 0, 9000 * MS], TRAIL[1]]
    response, _ = parse_run_response(replace(HONEST, text=msgspec.json.encode(trail)), expected)
    assert response.trail[0].ended_ns == 9000 * MS


def test_size_of_an_expected_output() -> None:
    assert EXPECTED.size_bytes == LOGITS.nbytes
    assert ExpectedResponse(ID, 7, ("pi4",), ()).size_bytes == 4


@given(nps.arrays(np.float32, (2, 3)))
def test_finite_tensors(x: Any) -> None:
    # Large finite numbers have an infinite sum.
    assert is_finite(x) == bool(np.isfinite(x).all())


specs = st.builds(
    TensorSpec, st.sampled_from(["f4", "i8"]), st.lists(st.integers(1, 3), max_size=3).map(tuple)
)
json = st.none() | st.integers() | st.text() | st.lists(st.integers() | st.lists(st.integers(), max_size=4))


@given(st.integers(0, 9), st.lists(specs, max_size=2), json | st.just(TRAIL), st.sampled_from(Kind))
def test_any_frame_is_a_response_or_one_error(
    epoch: int, tensors: list[TensorSpec], trail: Any, kind: Kind
) -> None:
    body = np.zeros(sum(tensor.size_bytes for tensor in tensors), np.uint8)
    change = {"kind": kind, "epoch": epoch, "tensors": tuple(tensors), "trail": trail}
    try:
        response, logits = respond(change, body)
    except DeployError as error:
        assert str(error).startswith("device pi4") and str(error).isprintable()
    else:
        assert (kind, epoch, logits.shape) == (Kind.RESULT, 7, (1, 3))
        assert [list(astuple(span)) for span in response.trail] == trail
