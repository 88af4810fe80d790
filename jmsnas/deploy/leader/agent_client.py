"""Client of one agent: a method for each call of the control plane and for requests, with one-line errors."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import grpc
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jmsnas.deploy.parts.manifest import signed_epoch
from jmsnas.deploy.parts.runtime import GOLDEN_TOLERANCE
from jmsnas.deploy.parts.torch_probe import TorchInfo
from jmsnas.deploy.transport.channel import CHUNK_BYTES, SERVICE, Identity
from jmsnas.deploy.transport.control_channel import ControlChannel
from jmsnas.deploy.transport.data_link import DataLink, Target
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.frame import VERSION, Frame
from jmsnas.deploy.transport.health import SERVICE as HEALTH
from jmsnas.deploy.transport.health import SERVING
from jmsnas.deploy.transport.link import clock_offset, timed_exchange
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.message import pack_message
from jmsnas.deploy.transport.refusal import RequestRefusedError
from jmsnas.deploy.transport.responses import (
    AgentInfo,
    Done,
    LinkTimes,
    MissingBlobs,
    StageReport,
    TimingEvent,
    malformed,
    named_device,
    parse_event,
    parse_response,
    printable,
)
from jmsnas.errors import DeployError, PartError

T = TypeVar("T")

# Timeouts. Staging lets a small board parse a part in a subprocess; sending takes longer on a slow link.
_CALL_S, _STAGE_S, _PUT_S, _LINK_S, _BENCH_S = 20.0, 60.0, 600.0, 300.0, 86400.0
_RETRY_S = 0.05


class DeviceLostError(DeployError):
    """A device that does not respond in time; `device` is its name, `code` the gRPC status of the call."""

    def __init__(
        self, device: str, message: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    ) -> None:
        super().__init__(message)
        self.device, self.code = device, code


class DeviceRefusedError(DeployError):
    """A call that a device refuses; `code` is its gRPC status."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


class AgentClient:
    """Client of one agent, used by the leader. Calls raise DeviceLostError and DeployError."""

    def __init__(self, address: AgentAddress, identity: Identity | None, liveness: Liveness) -> None:
        self.name, self.address = address.name, address.address
        self.fingerprint = address.fingerprint
        self._control = ControlChannel(Target(address.name, address.address, address.fingerprint), identity)
        self._link = DataLink(target_of(address), lambda: identity, liveness)

    def describe(self, timeout_s: float = _CALL_S) -> AgentInfo:
        """Request the description of the device."""
        info = self._call("Describe", pack_message({}), timeout_s, AgentInfo)
        if info.name != self.name:
            raise malformed(self.name, "Describe", f"name is {info.name!r}: expected {self.name!r}")
        if info.data != VERSION:
            raise DeployError(
                f"device {self.name}: its jmsnas sends tensors by version {info.data} of the data plane, "
                f"expected {VERSION}: update jmsnas {'there' if info.data < VERSION else 'here'}"
            )
        return info

    def epoch(self, key: Ed25519PublicKey) -> int:
        """Return the number of the device's newest plan, signed by the holder of `key`; 0 for none.

        The signature is checked because a false large number would leave none for later plans of any device.
        """
        info = self.describe()
        if info.epoch == 0:
            return 0
        try:
            signed = signed_epoch(info.plan.manifest.encode(), bytes.fromhex(info.plan.signature), key)
        except (PartError, ValueError):
            signed = 0
        if signed != info.epoch:
            raise DeployError(
                f"device {self.name} has a plan that this leader did not sign: stop its agent, delete "
                "its store, start it again"
            )
        return signed

    def torch(self, processor: str) -> TorchInfo:
        """Request the version of torch there, and its call overhead on `processor`."""
        return self._call("Torch", pack_message({"processor": processor}), _STAGE_S, TorchInfo)

    def offer(self, content: bytes, signature: bytes) -> tuple[str, ...]:
        """Send a signed manifest; returns the digests of the blobs that the device lacks."""
        message = pack_message({"signature": signature.hex()}, content)
        return self._call("Offer", message, _CALL_S, MissingBlobs).missing

    def put(self, sha256: str, content: bytes) -> None:
        """Send a blob in chunks."""

        def messages() -> Iterator[bytes]:
            yield pack_message({"sha256": sha256})
            for start in range(0, len(content), CHUNK_BYTES):
                yield pack_message({}, memoryview(content)[start : start + CHUNK_BYTES])

        with self._errors("Put"):
            response = self._control.call(
                lambda channel: channel.stream_unary(f"/{SERVICE}/Put")(messages(), timeout=_PUT_S)
            )
        parse_response(response, Done, self.name, "Put")

    def stage(self, epoch: int) -> float:
        """Make the device load and check its part; returns its largest error on the golden input."""
        error = self._call("Stage", pack_message({"epoch": epoch}), _STAGE_S, StageReport).error
        if error > GOLDEN_TOLERANCE:
            expected = f"expected at most {GOLDEN_TOLERANCE} on the golden input"
            raise malformed(self.name, "Stage", f"error is {error:.3g}: {expected}")
        return error

    def retire(self, below: int) -> None:
        """Remove all plans with a number below `below`."""
        self._call("Retire", pack_message({"below": below}), _CALL_S, Done)

    def link(self, target: AgentAddress, sizes: Sequence[int], clock: bool = False) -> LinkTimes:
        """Make the device time messages of `sizes` bytes to a neighbour, and compare clocks if `clock`."""
        fields = {**msgspec.structs.asdict(target_of(target)), "sizes": sizes, "clock": clock}
        began_ns = time.monotonic_ns()
        times = self._call("Link", pack_message(fields), _LINK_S, LinkTimes, (target.name,))
        spent_ns = time.monotonic_ns() - began_ns
        if len(times.arrival_ns) != len(sizes):
            fault = f"{len(times.arrival_ns)} times: expected {len(sizes)}"
            raise malformed(self.name, "Link", fault)
        if times.round_trip_ns > spent_ns or (clock and not times.round_trip_ns):
            fault = (
                f"round_trip_ns is {times.round_trip_ns}: expected 1 to {spent_ns}, the length of the call"
            )
            raise malformed(self.name, "Link", fault)
        return times

    def allow(self, content: bytes, signature: bytes) -> tuple[str, ...]:
        """Send a signed list of blocks to time; returns the digests of those that the device lacks."""
        message = pack_message({"signature": signature.hex()}, content)
        return self._call("Allow", message, _CALL_S, MissingBlobs).missing

    def bench(self, job: Mapping[str, Any], report: Callable[[TimingEvent], None]) -> None:
        """Make the device time blocks; `report` is called with each event of the job."""
        with self._errors("Bench"):
            content = pack_message({}, msgspec.json.encode(job))
            for message in self._control.call(
                lambda channel: channel.unary_stream(f"/{SERVICE}/Bench")(content, timeout=_BENCH_S)
            ):
                report(parse_event(message, self.name))

    def clock(self, exchanges: int = 20) -> tuple[int, int]:
        """Measure the offset of the device's clock to this one, and the least round trip, nanoseconds."""
        with self._errors("Exchange"):
            return clock_offset([timed_exchange(self._link) for _ in range(exchanges)])

    def healthy(self, timeout_s: float = 1.0) -> bool:
        """Return whether the agent reports in time that it is serving."""
        ends_s = time.monotonic() + timeout_s
        while (left_s := ends_s - time.monotonic()) > 0:
            try:
                return self._control.call(partial(_health, timeout_s=left_s))
            except (grpc.RpcError, RequestRefusedError):
                time.sleep(min(_RETRY_S, left_s))
        return False

    def start(
        self, frame: Frame, timeout_s: float, max_bytes: int, behind: Sequence[str] = ()
    ) -> Callable[[], Frame]:
        """Send an inference request; returns a function that waits for the response, of `max_bytes` at most.

        An error may be about the device or one of those `behind` it.
        """
        with self._errors("Run", behind):
            answer = self._link.wait(frame, timeout_s, max_bytes)

        def wait() -> Frame:
            with self._errors("Run", behind):
                return answer()

        return wait

    def close(self) -> None:
        """Close the connections."""
        self._control.close()
        self._link.close()

    @contextmanager
    def _errors(self, method: str, behind: Sequence[str] = ()) -> Iterator[None]:
        """Raise DeployError for a failed call."""
        try:
            yield
        except grpc.RpcError as error:
            raise _failed(self.name, method, error.code(), error.details() or "", behind) from None
        except RequestRefusedError as error:
            raise _failed(self.name, method, error.code, str(error), behind) from None

    def _call(
        self, name: str, message: bytes, timeout_s: float, kind: type[T], behind: Sequence[str] = ()
    ) -> T:
        with self._errors(name, behind):
            response = self._control.call(
                lambda channel: channel.unary_unary(f"/{SERVICE}/{name}")(message, timeout=timeout_s)
            )
        return parse_response(response, kind, self.name, name)


def _health(channel: Any, timeout_s: float) -> bool:
    return bool(channel.unary_unary(f"/{HEALTH}/Check")(b"", timeout=timeout_s) == SERVING)


def target_of(address: AgentAddress) -> Target:
    """Return name, data port and fingerprint of an agent, as the end of a link."""
    return Target(address.name, address.data_address, address.fingerprint)


def _failed(
    name: str, method: str, code: grpc.StatusCode, details: str, behind: Sequence[str]
) -> DeployError:
    """Return the error of a failed call; its text may be about one of the devices `behind` the called one."""
    text = printable(details)
    device = named_device(text, (name, *behind))
    if not device:  # gRPC's own text: the address, and the cause
        device, text = name, f"device {name}: {text}"
    origin = "" if device == name else f", reported by device {name}"
    text = f"{text} ({method}, {code.name}{origin})"
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return DeviceLostError(device, f"{text}. See: jmsnas doctor", code)
    return DeviceRefusedError(text, code)
