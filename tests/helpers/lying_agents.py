"""Real agents whose responses are altered on their way out, for tests of those who receive them."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from jmsnas.deploy.agent import request_handler, service
from jmsnas.deploy.transport import frame

Fields = dict[str, Any]


def alter_descriptions(
    patch: pytest.MonkeyPatch, has: str, alter: Callable[[Fields], bytes | Fields | None]
) -> None:
    """Alter the fields of every response or timing event that has the field `has`: in place, or as returned.

    A response of bytes is sent as it is, as the JSON body of an empty header.
    """

    def pack(fields: Any, body: bytes = b"") -> bytes:
        whole = dict(fields) | (msgspec.json.decode(body) if body else {})
        if has not in whole:
            return frame.pack_message(fields, body)
        changed = alter(whole)
        whole = whole if changed is None else changed
        content = whole if isinstance(whole, bytes) else msgspec.json.encode(whole)
        return frame.pack_message({}, content)

    patch.setattr(service, "pack_message", pack)
    patch.setattr("jmsnas.deploy.agent.remote_timing.pack_message", pack)


def alter_outputs(
    patch: pytest.MonkeyPatch, device: str, alter: Callable[[Fields, bytes], tuple[Fields, bytes] | bytes]
) -> None:
    """Alter the header and the body of every response of `device` to a request, or replace its message."""

    def pack(header: frame.TensorHeader, body: Any = b"") -> bytes:
        if header.trail[0].device != device:
            return frame.pack_message(header, body)
        changed = alter(msgspec.to_builtins(header), bytes(body))
        return changed if isinstance(changed, bytes) else frame.pack_message(*changed)

    patch.setattr(request_handler, "pack_message", pack)
