import msgspec
import pytest

from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import FrameError


class Point(msgspec.Struct, forbid_unknown_fields=True):
    x: int
    sizes: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b'{"x": "secret"}', r"a point is not valid: a wrong value at \$.x"),
        (b'{"x": 1.0}', r"a wrong value at \$.x"),
        (b'{"x": true}', r"a wrong value at \$.x"),
        (b'{"x": 1, "sizes": [1, "secret"]}', r"a wrong value at \$.sizes\[1\]"),
        (b'{"x": 1, "secret": 2}', "malformed JSON, or a missing or unknown field"),
        (b'{"sizes": []}', "malformed JSON, or a missing or unknown field"),
        (b'{"x": NaN}', "malformed JSON"),
        (b"[" * 100_000, "malformed JSON"),
        (b'{"x": 1} secret', "malformed JSON"),
    ],
)
def test_errors_name_the_field_and_not_its_content(content: bytes, error: str) -> None:
    with pytest.raises(FrameError, match=error) as refused:
        decode_json(content, Point, FrameError, "a point")
    assert "secret" not in str(refused.value)


def test_valid_content() -> None:
    assert decode_json(b'{"x": 1, "sizes": [2]}', Point, FrameError, "a point") == Point(1, (2,))
