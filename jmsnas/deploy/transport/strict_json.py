"""Strict decoding of JSON that comes from another process or device, by msgspec."""

import re
from typing import TypeVar

import msgspec

from jmsnas.errors import JmsnasError

T = TypeVar("T")
_PATH = re.compile(r"at `(\$[\w.\[\]]{0,60})`$")


def decode_json(content: bytes | memoryview, kind: type[T], error: type[JmsnasError], name: str) -> T:
    """Decode JSON into `kind`, without converting any value.

    Raises `error` for malformed JSON, missing keys, values of another type or out of range, and forbidden
    keys. The text has `name` and the path of the field, and nothing of the content.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError) as reason:
        path = _PATH.search(str(reason))
        fault = f"a wrong value at {path[1]}" if path else "malformed JSON, or a missing or unknown field"
        raise error(f"{name} is not valid: {fault}") from None
