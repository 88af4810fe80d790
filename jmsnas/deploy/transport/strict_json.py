"""Strict decoding of JSON that comes from another process or device, by msgspec."""

import re
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from jmsnas.errors import JmsnasError

T = TypeVar("T")
_PATH = re.compile(r"at `(\$[\w.\[\]]{0,60})`$")


@lru_cache(maxsize=64)
def _decoder(kind: Hashable) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)


def decode_json(content: bytes | memoryview, kind: type[T], error: type[JmsnasError], name: str) -> T:
    """Decode JSON into `kind`; see `decode_with`."""
    found: T = decode_with(_decoder(kind), content, error, name)  # type: ignore[arg-type]
    return found


def decode_with(
    decoder: "msgspec.json.Decoder[T]", content: bytes | memoryview, error: type[JmsnasError], name: str
) -> T:
    """Decode JSON into the type of a decoder, without converting any value.

    Raises `error` for malformed JSON, missing keys, values of another type or out of range, and forbidden
    keys. The text has `name` and the path of the field, and nothing of the content.
    """
    try:
        return decoder.decode(content)
    except (ValueError, RecursionError) as reason:
        path = _PATH.search(str(reason))
        fault = f"a wrong value at {path[1]}" if path else "malformed JSON, or a missing or unknown field"
        raise error(f"{name} is not valid: {fault}") from None
