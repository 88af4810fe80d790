"""Requests that are not served: status code and text, as an exception and as the text of an error frame."""

from collections.abc import Sequence
from typing import Annotated

import grpc
import msgspec
from msgspec import Meta

from jmsnas.deploy.transport.responses import named_device
from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import DeployError, FrameError, PartError, StorageError

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
# Status codes that are passed on to the caller; all others become UNAVAILABLE.
_PASSED_ON = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
}
_MAX_LETTERS = 400


class RequestRefusedError(Exception):
    """A request that is not served: a gRPC status code, and a text without paths or content."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class _ErrorText(msgspec.Struct, forbid_unknown_fields=True):
    code: Annotated[int, Meta(ge=1, le=16)]
    text: Annotated[str, Meta(max_length=1000)]


def error_text(error: RequestRefusedError) -> bytes:
    """Encode an error as the text of a frame."""
    return msgspec.json.encode(_ErrorText(error.code.value[0], str(error)[:_MAX_LETTERS]))


def parse_error(text: bytes) -> RequestRefusedError:
    """Decode the text of an error frame; its content is not trusted. Raises FrameError."""
    found = decode_json(text, _ErrorText, FrameError, "an error")
    return RequestRefusedError(_CODES[found.code], found.text)


def refusal(device: str, error: RequestRefusedError, behind: Sequence[str] = ()) -> RequestRefusedError:
    """Return the error of a call to another device as it is passed on to the caller.

    Its text may be about that device or one of those `behind` it.
    """
    text = str(error)
    # Texts of an agent begin with "device NAME: ".
    named = named_device(text, (device, *behind))
    from_agent = named and len(text) <= _MAX_LETTERS and text.isprintable()
    text = text if from_agent else f"device {device}: {error.code.name}"
    return RequestRefusedError(error.code if error.code in _PASSED_ON else grpc.StatusCode.UNAVAILABLE, text)


def as_refusal(name: str, error: Exception) -> RequestRefusedError:
    """Return what leaves the device `name` of an error: a code and a text, without paths or content."""
    if isinstance(error, RequestRefusedError):
        text = str(error)
        return RequestRefusedError(
            error.code, text if text.startswith("device ") else f"device {name}: {text}"
        )
    if isinstance(error, DeployError):  # of a neighbour, with its name
        return RequestRefusedError(grpc.StatusCode.FAILED_PRECONDITION, str(error))
    if isinstance(error, PartError | StorageError):  # those of the store name no path
        return RequestRefusedError(grpc.StatusCode.FAILED_PRECONDITION, f"device {name}: {error}")
    if isinstance(error, FrameError):
        return RequestRefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"device {name}: {error}")
    return RequestRefusedError(grpc.StatusCode.INTERNAL, f"device {name}: {type(error).__name__}")
