import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from jmsnas.deploy.transport.frame import pack_message
from jmsnas.deploy.transport.run_response import ExpectedResponse, is_finite, parse_run_response
from jmsnas.errors import DeployError

ID = "0123456789abcdef" * 2
MS = 1_000_000
EXPECTED = ExpectedResponse(ID, 7, ("pi4", "cloud"), (1, 3), 0.05)
HEADER = {
    "id": ID,
    "epoch": 7,
    "dtype": "f4",
    "shape": [1, 3],
    "trail": [["pi4", 10 * MS, 11 * MS, 12 * MS], ["cloud", 900, 901, 5 * MS]],
}
LOGITS = np.array([[1.0, -2.0, 0.5]], np.float32)


def respond(change: dict[str, Any], body: bytes = LOGITS.tobytes()) -> Any:
    return parse_run_response(pack_message({**HEADER, **change}, body), EXPECTED)


def test_a_valid_response() -> None:
    header, body, logits = respond({})
    np.testing.assert_array_equal(logits, LOGITS)
    assert header.trail[1].device == "cloud" and bytes(body) == LOGITS.tobytes()


@pytest.mark.parametrize(
    ("change", "body", "fault"),
    [
        (
            {"id": "f" * 32},
            LOGITS,
            "a response to a different request: got request ffffffff of plan 7, expected",
        ),
        ({"epoch": 6}, LOGITS, "a response to a different request: got request 01234567 of plan 6"),
        ({"dtype": "i8"}, LOGITS.astype("<i8"), r"an output in i8 of shape \(1, 3\): expected f4"),
        ({"dtype": "f2"}, LOGITS.astype("<f2"), "an output in f2"),
        ({"dtype": "u1"}, LOGITS.astype("u1"), "an output in u1"),
        ({"scale": 2.0}, LOGITS, "an output in f4"),
        ({"shape": [3, 1]}, LOGITS, r"of shape \(3, 1\): expected f4 of shape \(1, 3\)"),
        ({"shape": [1, 2]}, LOGITS[:, :2], r"of shape \(1, 2\)"),
        ({"shape": [3]}, LOGITS, r"of shape \(3,\)"),
        ({"shape": []}, LOGITS[0, :1], r"of shape \(\)"),
        ({}, np.float32([[1, math.nan, 2]]), "a number that is not finite"),
        ({}, np.float32([[1, math.inf, -math.inf]]), "a number that is not finite"),
        ({"trail": []}, LOGITS, "a trail of none: expected pi4, cloud"),
        ({"trail": HEADER["trail"][:1]}, LOGITS, "a trail of pi4: expected pi4, cloud"),
        ({"trail": HEADER["trail"][::-1]}, LOGITS, "a trail of cloud, pi4"),
        ({"trail": [*HEADER["trail"], HEADER["trail"][1]]}, LOGITS, "a trail of pi4, cloud, cloud"),
        ({"trail": [HEADER["trail"][0], ["jetson", 1, 2, 3]]}, LOGITS, "a trail of pi4, jetson"),
        ({"trail": [HEADER["trail"][0], ["cloud", 3, 2, 4]]}, LOGITS, "times of device cloud out of order"),
        ({"trail": [HEADER["trail"][0], ["cloud", 1, 5, 4]]}, LOGITS, "times of device cloud out of order"),
        ({"trail": [["pi4", 0, 0, 3600_000 * MS], HEADER["trail"][1]]}, LOGITS, "3.6e.03 s on device pi4"),
        ({"trail": [["pi4", 0, 0, 60 * MS], HEADER["trail"][1]]}, LOGITS, "0.06 s on device pi4"),
        ({"trail": [["pi4", -1, 0, 1], HEADER["trail"][1]]}, LOGITS, "malformed response"),
        ({"trail": [["\x1b[2J", 0, 0, 1], HEADER["trail"][1]]}, LOGITS, "malformed response"),
        ({"unknown": 1}, LOGITS, "malformed response"),
    ],
)
def test_a_false_response_is_one_line(change: dict[str, Any], body: Any, fault: str) -> None:
    with pytest.raises(DeployError, match=f"^device pi4.*{fault}") as refused:
        respond(change, body.tobytes())
    assert str(refused.value).isprintable()


def test_a_repeated_request_may_have_taken_longer_before() -> None:
    expected = ExpectedResponse(ID, 7, ("pi4", "cloud"), (1, 3))
    trail = [["pi4", 0, 0, 9000 * MS], HEADER["trail"][1]]
    header, _, _ = parse_run_response(pack_message({**HEADER, "trail": trail}, LOGITS.tobytes()), expected)
    assert header.trail[0].ended_ns == 9000 * MS


@given(nps.arrays(np.float32, (2, 3)))
def test_finite_tensors(x: Any) -> None:
    # Large finite numbers have an infinite sum.
    assert is_finite(x) == bool(np.isfinite(x).all())


@given(st.sampled_from(list(HEADER)), st.none() | st.integers() | st.text() | st.lists(st.integers()))
def test_any_header_is_a_response_or_one_error(key: str, value: Any) -> None:
    try:
        header, _, _ = respond({key: value})
    except DeployError as error:
        assert str(error).startswith("device pi4") and str(error).isprintable()
    else:
        assert (header.id, header.epoch, header.shape) == (ID, 7, (1, 3))
