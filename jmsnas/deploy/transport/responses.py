"""Responses of an agent as checked, frozen types: the one place where what a device sends is parsed.

Every number is finite and in range, every text printable and of bounded length. A device is trusted to
describe itself, but not to send a valid message: the functions return a valid value or raise ResponseError.
`jmsnas.deploy.transport.run_response` does the same for the response to a request.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from jmsnas.deploy.transport.message import DeviceName, Epoch, Nanoseconds, unpack_message
from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import DeployError, FrameError

MAX_BODY_BYTES = 1 << 20
# Longest overhead of one call, and largest latency or number of a measurement, that is believed.
_MAX_CALL_S, _MAX_SECONDS, _MAX_RATIO = 1.0, 3600.0, 1e6
_NAMED = re.compile(r"device ([a-z0-9][a-z0-9_-]{0,63}): ")
_AT = re.compile(r"(.*) - at `(\$.*)`", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
T = TypeVar("T")

Version = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9.+_-]{0,64}\Z")]
Text = Annotated[str, Meta(max_length=300)]
CallSeconds = Annotated[float, Meta(ge=0, le=_MAX_CALL_S)]
_Key = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9_]{0,39}\Z")]
_Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Digests = Annotated[tuple[_Digest, ...], Meta(max_length=5000)]
_SignedNanoseconds = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
_Index = Annotated[int, Meta(ge=0, lt=5000)]
_Ratio = Annotated[float, Meta(gt=0, le=_MAX_RATIO)]
_Count = Annotated[float, Meta(ge=0, le=1e9)]
_Faults = Annotated[tuple[Text, ...], Meta(max_length=64)]


class ResponseError(DeployError):
    """A response of a device that is not valid, or not the one that was expected."""


class Done(msgspec.Struct, frozen=True):
    """Response without content."""


class SignedPlan(msgspec.Struct, frozen=True):
    """The newest manifest of a device as JSON, and its signature as hexadecimal digits; empty for none."""

    manifest: Annotated[str, Meta(max_length=64 << 10)]
    signature: Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{2}){0,64}\Z")]


class AgentInfo(msgspec.Struct, frozen=True):
    """Description of a device by its agent.

    Attributes
    ----------
    name
        Name in its certificate.
    epoch, plan
        Number of its newest plan, 0 for none, and the signed manifest.
    emulate
        Name of the device whose latency it emulates; empty for none.
    host, versions
        Description of its host, and versions of its packages.
    boot
        Identifier of the host's boot: agents with the same one share a monotonic clock. Empty if unknown.
    call_s
        Overhead of one onnxruntime call, seconds.
    data
        Version of its data plane; 0 for an agent that has none.
    """

    name: DeviceName
    epoch: Epoch
    plan: SignedPlan
    emulate: Annotated[str, Meta(pattern=r"\A(?:[a-z0-9][a-z0-9_-]{0,63})?\Z")]
    host: Annotated[dict[_Key, Text], Meta(max_length=64)]
    versions: Annotated[dict[_Key, Version], Meta(max_length=64)]
    boot: Annotated[str, Meta(pattern=r"\A[0-9a-f-]{0,64}\Z")]
    call_s: CallSeconds
    data: Annotated[int, Meta(ge=0, le=255)] = 0


class MissingBlobs(msgspec.Struct, frozen=True):
    """Digests of the offered files that a device lacks."""

    missing: _Digests


class StageReport(msgspec.Struct, frozen=True):
    """Largest error of a loaded part on its golden input."""

    error: Annotated[float, Meta(ge=0, le=1e30)]


class ExchangeTimes(msgspec.Struct, frozen=True):
    """Times of receiving a message and sending its response, ns of the device's monotonic clock."""

    received: Nanoseconds
    sent: Nanoseconds


class LinkTimes(msgspec.Struct, frozen=True):
    """Transfer times of a link in ns: for each size arrival minus departure, each by its own clock.

    If clocks were compared: `offset_ns`, the neighbour's clock minus this one; `round_trip_ns`, the shortest.
    """

    arrival_ns: Annotated[tuple[_SignedNanoseconds, ...], Meta(max_length=16)]
    offset_ns: _SignedNanoseconds = 0
    round_trip_ns: Nanoseconds = 0


class ProgressEvent(msgspec.Struct, frozen=True):
    """Progress of a timing job: share done, total, and text."""

    progress: tuple[_Count, Annotated[float, Meta(gt=0, le=1e9)], Text]

    def __post_init__(self) -> None:
        """Raise ValueError where more than the total is done."""
        _require(self.progress[0] <= 1.01 * self.progress[1], "progress beyond its total")


class RowEvent(msgspec.Struct, frozen=True):
    """Measured block of a timing job: its index, and the fields of a `Measurement`."""

    row: _Index
    ratio: _Ratio
    ratio_low: _Ratio
    ratio_high: _Ratio
    reference_s: Annotated[float, Meta(gt=0, le=_MAX_SECONDS)]
    converged: bool
    samples: Annotated[tuple[_Ratio, ...], Meta(min_length=1, max_length=20_000)]
    drift: Annotated[float, Meta(ge=-1, le=_MAX_RATIO)] = 0.0
    interrupted: Annotated[float, Meta(ge=0, le=1)] = 0.0
    faults: _Faults = ()

    def __post_init__(self) -> None:
        """Raise ValueError for an interval that is not around the ratio, or not among the samples."""
        least, most = min(self.samples), max(self.samples)
        inside = least <= self.ratio_low <= self.ratio <= self.ratio_high <= most
        _require(inside, "a ratio outside its interval or its samples")
        _require(self.ratio * self.reference_s <= _MAX_SECONDS, f"a latency above {_MAX_SECONDS:.0f} s")


class FailedEvent(msgspec.Struct, frozen=True):
    """Block of a timing job that the device's runtime refuses, and why."""

    failed: _Index
    why: Text


class ProviderEvent(msgspec.Struct, frozen=True):
    """Execution provider of onnxruntime that times the blocks of a job; sent before the first row."""

    provider: Version


class WarningEvent(msgspec.Struct, frozen=True):
    """Warning of a device for the user."""

    tell: Text


class EndEvent(msgspec.Struct, frozen=True):
    """End of a timing job: `done` when it is complete, else the exit code of its process."""

    done: bool = False
    ended: Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)] = 0


class FaultsEvent(msgspec.Struct, frozen=True):
    """Faults of the host during a timing job."""

    faults: _Faults


TimingEvent = ProgressEvent | RowEvent | FailedEvent | ProviderEvent | WarningEvent | EndEvent | FaultsEvent
# The type of an event by a key that it has; `faults` is in rows too, so that it is the last.
_EVENTS: tuple[tuple[str, type[TimingEvent]], ...] = (
    ("progress", ProgressEvent),
    ("row", RowEvent),
    ("failed", FailedEvent),
    ("provider", ProviderEvent),
    ("tell", WarningEvent),
    ("done", EndEvent),
    ("ended", EndEvent),
    ("faults", FaultsEvent),
)


def parse_response(message: bytes, kind: type[T], device: str, method: str) -> T:
    """Parse the response of a device into a `kind`, from the fields of its header and its JSON body.

    Raises ResponseError, one line with the device's name, for anything else.
    """
    return _convert(_fields(message, device, method), kind, device, method)


def parse_event(message: bytes, device: str) -> TimingEvent:
    """Parse an event of a timing job. Raises ResponseError."""
    fields = _fields(message, device, "Bench")
    kinds = [kind for key, kind in _EVENTS if key in fields]
    if not kinds:
        expected = ", ".join(key for key, _ in _EVENTS)
        raise malformed(device, "Bench", f"an event without one of {expected}")
    return _convert(fields, kinds[0], device, "Bench")


def malformed(device: str, method: str, fault: str) -> ResponseError:
    """Return the error of a device whose response is not valid; `fault` has what was sent and expected."""
    text = f"device {device}: malformed response ({method}): {printable(fault)}"
    return ResponseError(f"{text}: update jmsnas there or here")


def named_device(text: str, devices: Iterable[str]) -> str:
    """Return which of `devices` an error text of an agent is about, as it begins; empty for none of them."""
    found = _NAMED.match(text)
    return found[1] if found and found[1] in devices else ""


def printable(text: str) -> str:
    """Make text of another device safe for a terminal: at most 300 characters on one line, no controls."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:300])
    return re.sub(" {2,}", " ", shown)  # a run of spaces could end a line of the terminal


def _fields(message: bytes, device: str, method: str) -> dict[str, Any]:
    """Decode the fields of a response's header and JSON body, and check that its texts are printable."""
    try:
        header, body = unpack_message(message)
        if len(body) > MAX_BODY_BYTES:
            raise FrameError(f"a body of {len(body)} bytes: expected at most {MAX_BODY_BYTES}")
        own = decode_json(body, dict[str, Any], FrameError, "the body of a message") if body else {}
    except FrameError as error:
        raise malformed(device, method, str(error)) from None
    fields = header | own
    for text in _texts(fields):
        if not text.isprintable():
            raise malformed(device, method, f"{_shown(text)}: expected printable text")
    return fields


def _convert(fields: dict[str, Any], kind: type[T], device: str, method: str) -> T:
    try:
        return msgspec.convert(fields, kind)
    except (ValueError, RecursionError) as error:
        raise malformed(device, method, _fault(str(error), fields)) from None


def _fault(reason: str, fields: Any) -> str:
    """Describe why msgspec refuses fields: the path, the value there, and what was expected."""
    found = _AT.fullmatch(reason)
    if not found:
        return reason
    value: Any = fields
    try:
        for key, index in _STEP.findall(found[2]):
            value = value[key] if key else value[int(index)]
    except (KeyError, IndexError, TypeError):
        return f"{found[2].removeprefix('$.')}: {found[1]}"
    return f"{found[2].removeprefix('$.')} is {_shown(value)}: {found[1]}"


def _shown(value: Any) -> str:
    """Show a value of a response in at most 60 characters."""
    if isinstance(value, int) and abs(value) > 1 << 64:
        return "a number of more than 64 bits"
    if isinstance(value, str | int | float | bool) or value is None:
        text = printable(repr(value[:60] if isinstance(value, str) else value))
        return text if len(text) <= 60 else f"{text[:57]}..."
    return "a list" if isinstance(value, list) else "an object"


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in decoded JSON, keys included; without recursion, as a device chose its depth."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one


def _require(valid: bool, fault: str) -> None:
    if not valid:
        raise ValueError(fault)
