import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmsnas.deploy.serve.open_inference import ServedModel, encode_response, parse_request
from jmsnas.errors import FrameError

MODEL = ServedModel("m", (1, 1, 2, 2), (1, 3))
X = np.array([[[[0.5, -1.5], [3e-39, 2.0]]]], np.float32)
TENSOR: dict[str, Any] = {"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2]}
DATA: dict[str, Any] = {**TENSOR, "data": X.ravel().tolist()}


def document(tensor: dict[str, Any] = DATA, **fields: Any) -> bytes:
    return json.dumps({"inputs": [tensor], **fields}).encode()


def binary(content: bytes = X.tobytes(), size: Any = 16, **fields: Any) -> tuple[bytes, str]:
    head = document({**TENSOR, "parameters": {"binary_data_size": size}}, **fields)
    return head + content, str(len(head))


def test_numbers_as_json_flat_nested_and_as_bytes_are_the_same_image() -> None:
    for body, length in (
        (document(), None),
        (document(), str(len(document()))),
        (document({**TENSOR, "data": X.tolist()}), None),
        binary(),
    ):
        found = parse_request(MODEL, body, length)
        assert found.x.dtype == np.float32 and np.array_equal(found.x, X)
        assert (found.id, found.binary, found.timeout_s) == ("", False, 0.0)


def test_id_timeout_and_outputs() -> None:
    logits = {"name": "logits", "parameters": {"binary_data": True}}
    found = parse_request(MODEL, document(id="7", parameters={"timeout": 1500, "priority": 2}), None)
    assert (found.id, found.binary, found.timeout_s) == ("7", False, 0.0015)
    assert parse_request(MODEL, document(outputs=[logits]), None).binary
    assert parse_request(MODEL, document(parameters={"binary_data_output": True}), None).binary
    own = {"name": "logits", "parameters": {"binary_data": False}}
    request = document(parameters={"binary_data_output": True}, outputs=[own])
    assert not parse_request(MODEL, request, None).binary


@pytest.mark.parametrize(
    ("body", "length", "error"),
    [
        (b"", None, "the request is not valid: malformed JSON"),
        (b"{}", None, "missing or unknown field"),
        (b'{"inputs": []}', None, "the request has 0 inputs: expected 1, image"),
        (json.dumps({"inputs": [DATA, DATA]}).encode(), None, "has 2 inputs"),
        (document(TENSOR), None, "neither data nor binary_data_size"),
        (document({**DATA, "name": "x"}), None, "has input 'x': expected 'image'"),
        (document({**DATA, "datatype": "INT64"}), None, "datatype 'INT64': expected FP32"),
        (document({**DATA, "shape": [2, 2]}), None, r"shape \[2, 2\]: expected \[1, 1, 2, 2\], one image"),
        (document({**DATA, "shape": [1, 1, 2, -2]}), None, r"wrong value at \$.inputs"),
        (document({**DATA, "data": [1.0] * 3}), None, r"data of image has shape \[3\]: expected"),
        (document({**DATA, "data": [[[[1.0, 2.0], [3.0]]]]}), None, "lists of unlike lengths"),
        (document({**DATA, "data": [[[[1.0] * 2] * 3]]}), None, r"has shape \[1, 1, 3, 2\]"),
        (document({**DATA, "data": [True] * 4}), None, "data of image is not valid"),
        (document({**DATA, "data": ["1.0"] * 4}), None, "data of image is not valid"),
        (document({**DATA, "data": 1.0}), None, "data of image is not valid"),
        (document({**DATA, "data": [1e39] * 4}), None, "a number that is not finite"),
        (document().replace(b"0.5", b"NaN"), None, "not valid"),
        (document().replace(b"0.5", b"1e999"), None, "not valid"),
        (b'{"inputs": ' + b"[" * 50_000, None, "the request is not valid"),
        (document({**TENSOR, "data": 0}).replace(b": 0", b": " + b"[" * 9000), None, "is not valid"),
        (document({**DATA, "parameters": {"shared_memory_region": "x"}}), None, "which is not supported"),
        (document(outputs=[{"name": "x"}]), None, "asks for output 'x': expected 'logits'"),
        (
            document(outputs=[{"name": "logits", "parameters": {"classification": 3}}]),
            None,
            "'classification'",
        ),
        (
            document(outputs=[{"name": "logits", "parameters": {"binary_data": 1}}]),
            None,
            "binary_data of logits",
        ),
        (document(parameters={"timeout": -1}), None, r"\$.parameters.timeout"),
        (document() + b"0", str(len(document())), "1 bytes follow the JSON"),
        (document(), "x", "Inference-Header-Content-Length is 'x': expected a number up to"),
        (document(), "-1", "Inference-Header-Content-Length is '-1'"),
        (document(), "9" * 5000, "Inference-Header-Content-Length"),
        (document(), str(len(document()) + 1), "expected a number up to"),
        (b" " * 70_000, "70000", "the JSON before the tensors has 70000 bytes: expected at most 65536"),
        (*binary(size=12), "binary_data_size is 12, and 16 bytes follow the JSON: expected 16 of both"),
        (*binary(content=b"x" * 12), "binary_data_size is 16, and 12 bytes follow"),
        (*binary(size="16"), "binary_data_size is '16'"),
        (*binary(content=X.tobytes()[:12] + b"\0\0\xc0\x7f"), "a number that is not finite"),
        (*binary(content=X.tobytes()[:12] + b"\0\0\x80\x7f"), "a number that is not finite"),
    ],
)
def test_malformed_requests_are_refused_in_one_line(body: bytes, length: str | None, error: str) -> None:
    with pytest.raises(FrameError, match=error) as caught:
        parse_request(MODEL, body, length)
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


@settings(max_examples=150)
@given(st.data())
def test_any_body_is_an_image_or_a_frame_error(data: st.DataObject) -> None:
    body, length = data.draw(st.sampled_from([binary(), (document(), str(len(document())))]))
    mutated = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        n = data.draw(st.integers(0, len(mutated)))
        mutated[n : n + data.draw(st.integers(0, 3))] = data.draw(
            st.one_of(
                st.binary(max_size=4), st.sampled_from([b"[", b"]", b"{}", b"null", b"1e400", b'"', b"-"])
            )
        )
    header = data.draw(st.sampled_from([length, None]) | st.text(max_size=5))
    try:
        found = parse_request(MODEL, bytes(mutated), header)
    except FrameError as error:
        assert str(error).isprintable()
    else:
        assert found.x.shape == MODEL.input_shape and np.isfinite(found.x).all()


@settings(max_examples=40)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_every_image_arrives_unchanged_in_both_forms(numbers: list[float]) -> None:
    x = np.array(numbers, np.float32).reshape(1, 1, 2, 2)
    for body, length in ((document({**TENSOR, "data": x.tolist()}), None), binary(x.tobytes())):
        assert np.array_equal(parse_request(MODEL, body, length).x, x)


def test_a_response_has_the_logits_as_json_or_bytes() -> None:
    logits = np.array([[1.5, -2.0, 0.25]], np.float32)
    text, length = encode_response(MODEL, logits, 4, "7", binary=False)
    output = {"name": "logits", "datatype": "FP32", "shape": [1, 3]}
    expected = {"id": "7", "model_name": "m", "parameters": {"epoch": 4}}
    assert length is None
    assert json.loads(text) == {**expected, "outputs": [{**output, "data": [1.5, -2.0, 0.25]}]}
    body, length = encode_response(MODEL, logits, 4, "", binary=True)
    assert length is not None and body[length:] == logits.tobytes()
    assert json.loads(body[:length])["outputs"] == [{**output, "parameters": {"binary_data_size": 12}}]
