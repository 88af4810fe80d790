"""Real agents whose responses are altered on their way out, for tests of those who receive them."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from jmsnas.deploy.agent import data_server, service
from jmsnas.deploy.transport import connection
from jmsnas.deploy.transport.frame import Frame, Kind, pack_head
from jmsnas.deploy.transport.message import pack_message
from jmsnas.deploy.transport.run_response import RunResponse, response_frame

Fields = dict[str, Any]


def alter_descriptions(
    patch: pytest.MonkeyPatch, has: str, alter: Callable[[Fields], bytes | Fields | None]
) -> None:
    """Alter the fields of every response or timing event that has the field `has`: in place, or as returned.

    A response of bytes is sent as it is, as the JSON body of an empty header, or the text of a frame.
    """

    def altered(whole: Fields) -> bytes:
        changed = alter(whole)
        whole = whole if changed is None else changed
        return whole if isinstance(whole, bytes) else msgspec.json.encode(whole)

    def pack(fields: Any, body: bytes = b"") -> bytes:
        whole = dict(fields) | (msgspec.json.decode(body) if body else {})
        return pack_message({}, altered(whole)) if has in whole else pack_message(fields, body)

    def head(sent: Frame) -> bytes:
        if sent.kind is Kind.TIMES and has in (whole := msgspec.json.decode(sent.text)):
            sent = replace(sent, text=altered(whole))
        return pack_head(sent)

    patch.setattr(service, "pack_message", pack)
    patch.setattr("jmsnas.deploy.agent.remote_timing.pack_message", pack)
    patch.setattr(connection, "pack_head", head)


def alter_outputs(patch: pytest.MonkeyPatch, device: str, alter: Callable[[Frame], Frame | bytes]) -> None:
    """Alter the frame of every response of `device` to a request, or replace its bytes."""

    def respond(response: RunResponse, call: int, epoch: int, request_id: bytes) -> Frame:
        honest = response_frame(response, call, epoch, request_id)
        if response.trail[0].device != device:
            return honest
        changed = alter(honest)
        return changed if isinstance(changed, Frame) else _Bytes(Kind.RESULT, text=changed)

    patch.setattr(data_server, "response_frame", respond)
    patch.setattr(
        connection, "pack_head", lambda sent: sent.text if isinstance(sent, _Bytes) else pack_head(sent)
    )


class _Bytes(Frame):
    """Bytes that are sent instead of a frame: its text."""
