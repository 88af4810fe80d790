import onnx
import pytest
from deployments import exported
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.deploy.parts.onnx_scan import ALLOWED_OPERATORS, scan_onnx
from jmsnas.errors import PartError

MODEL = exported().onnx_part(1, 6) or b""


def test_scan_agrees_with_the_onnx_package() -> None:
    known = onnx.load_from_string(MODEL)
    found = scan_onnx(MODEL)
    assert set(found.ops) == {node.op_type for node in known.graph.node} <= ALLOWED_OPERATORS
    assert found.opset == known.opset_import[0].version


@given(st.integers(0, len(MODEL) - 1), st.integers(0, 255))
def test_changed_bytes_raise_part_error_or_nothing(at: int, value: int) -> None:
    changed = bytearray(MODEL)
    changed[at] = value
    try:
        scan_onnx(bytes(changed))
    except PartError as error:
        assert len(str(error)) < 200


@given(st.binary(max_size=300))
def test_garbage_is_refused(content: bytes) -> None:
    with pytest.raises(PartError):
        scan_onnx(content)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "it ends within"),
        (b"\x3b", "a field of an unknown kind"),
        (b"\x3a\x05ab", "it ends within a field"),
        (b"\x38\x01", "a number where a message was expected"),
    ],
)
def test_broken_fields(content: bytes, text: str) -> None:
    with pytest.raises(PartError, match=text):
        scan_onnx(content)
