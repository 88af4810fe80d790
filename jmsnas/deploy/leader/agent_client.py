"""Client of one agent: one method for each gRPC call, with one-line errors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jmsnas.deploy.parts.manifest import signed_epoch
from jmsnas.deploy.parts.torch_probe import TorchInfo
from jmsnas.deploy.transport.channel import CHUNK_BYTES, SERVICE, Identity, open_channel
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.frame import pack_message, unpack_message
from jmsnas.deploy.transport.health import SERVICE as HEALTH
from jmsnas.deploy.transport.health import SERVING
from jmsnas.deploy.transport.link import LinkTimes, clock_offset, timed_exchange
from jmsnas.errors import DeployError, FrameError, PartError

# Timeouts. Staging lets a small board parse a part in a subprocess; sending takes longer on a slow link.
_CALL_S, _STAGE_S, _PUT_S, _LINK_S, _BENCH_S = 5.0, 60.0, 600.0, 300.0, 86400.0
# Errors of a malformed response, and of `report` with a malformed event.
_MALFORMED = (
    FrameError, msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SignedPlan:
    """The newest manifest of a device as JSON, and its signature as hexadecimal digits; empty for none."""

    manifest: str
    signature: str


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """Description of a device by its agent.

    Attributes
    ----------
    epoch, plan
        Number of its newest plan, 0 for none, and the signed manifest.
    emulate
        Name of the device whose latency it emulates; empty for none.
    boot
        Identifier of the host's boot: agents with the same one share a monotonic clock. Empty if unknown.
    call_s
        Overhead of one onnxruntime call, seconds.
    """

    epoch: int
    plan: SignedPlan
    emulate: str
    host: dict[str, str]
    versions: dict[str, str]
    boot: str
    call_s: float


class DeviceLostError(DeployError):
    """A device that does not respond in time; `device` is its name."""

    def __init__(self, device: str, message: str) -> None:
        super().__init__(message)
        self.device = device


class AgentClient:
    """gRPC client of one agent, used by the leader. Calls raise DeviceLostError and DeployError."""

    def __init__(self, address: AgentAddress, identity: Identity | None) -> None:
        self.name, self.address = address.name, address.address
        self.fingerprint = address.fingerprint
        self._channel = open_channel(address.address, address.name, identity)

    def describe(self) -> AgentInfo:
        """Request the description of the device."""
        with self._errors("Describe"):
            fields, body = self._call("Describe", pack_message({}), _CALL_S)
            return msgspec.convert({**fields, **msgspec.json.decode(body, type=dict)}, AgentInfo)

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
        with self._errors("Torch"):
            fields, _ = self._call("Torch", pack_message({"processor": processor}), _STAGE_S)
            return msgspec.convert(fields, TorchInfo)

    def offer(self, content: bytes, signature: bytes) -> list[str]:
        """Send a signed manifest; returns the digests of the blobs that the device lacks."""
        with self._errors("Offer"):
            fields, _ = self._call("Offer", pack_message({"signature": signature.hex()}, content), _CALL_S)
            return msgspec.convert(fields["missing"], list[str])

    def put(self, sha256: str, content: bytes) -> None:
        """Send a blob in chunks."""

        def messages() -> Iterator[bytes]:
            yield pack_message({"sha256": sha256})
            for start in range(0, len(content), CHUNK_BYTES):
                yield pack_message({}, memoryview(content)[start : start + CHUNK_BYTES])

        with self._errors("Put"):
            unpack_message(self._channel.stream_unary(f"/{SERVICE}/Put")(messages(), timeout=_PUT_S))

    def stage(self, epoch: int) -> float:
        """Make the device load and check its part; returns its largest error on the golden input."""
        with self._errors("Stage"):
            fields, _ = self._call("Stage", pack_message({"epoch": epoch}), _STAGE_S)
            return msgspec.convert(fields["error"], float)

    def retire(self, below: int) -> None:
        """Remove all plans with a number below `below`."""
        with self._errors("Retire"):
            self._call("Retire", pack_message({"below": below}), _CALL_S)

    def link(self, target: AgentAddress, sizes: Sequence[int], clock: bool = False) -> LinkTimes:
        """Make the device time messages of `sizes` bytes to a neighbour, and compare clocks if `clock`."""
        fields = {"address": target.address, "name": target.name, "sizes": sizes, "clock": clock}
        with self._errors("Link"):
            _, body = self._call("Link", pack_message(fields), _LINK_S)
            times = msgspec.json.decode(body, type=LinkTimes)
            missing = clock and not {"offset_ns", "round_trip_ns"} <= times.keys()
            if missing or len(times["arrival_ns"]) != len(sizes):
                raise ValueError
            return times

    def allow(self, content: bytes, signature: bytes) -> list[str]:
        """Send a signed list of blocks to time; returns the digests of those that the device lacks."""
        with self._errors("Allow"):
            _, body = self._call("Allow", pack_message({"signature": signature.hex()}, content), _CALL_S)
            return msgspec.json.decode(body, type=list[str])

    def bench(self, job: Mapping[str, Any], report: Callable[[Any], None]) -> None:
        """Make the device time blocks; `report` is called with each event of the job."""
        method = self._channel.unary_stream(f"/{SERVICE}/Bench")
        with self._errors("Bench"):
            for message in method(pack_message({}, msgspec.json.encode(job)), timeout=_BENCH_S):
                report(msgspec.json.decode(unpack_message(message)[1]))

    def clock(self, exchanges: int = 20) -> tuple[int, int]:
        """Measure the offset of the device's clock to this one, and the least round trip, nanoseconds."""
        method = self._channel.unary_unary(f"/{SERVICE}/Exchange")
        with self._errors("Exchange"):
            return clock_offset([timed_exchange(method) for _ in range(exchanges)])

    def healthy(self, timeout_s: float = 1.0) -> bool:
        """Return whether the agent reports in time that it is serving."""
        try:
            method = self._channel.unary_unary(f"/{HEALTH}/Check")
            return bool(method(b"", timeout=timeout_s, wait_for_ready=True) == SERVING)
        except grpc.RpcError:
            return False

    def start(self, message: bytes, timeout_s: float) -> Callable[[], bytes]:
        """Send an inference request; returns a function that waits for the response."""
        call = self._channel.unary_unary(f"/{SERVICE}/Run").future(message, timeout=timeout_s)

        def wait() -> bytes:
            try:
                with self._errors("Run"):
                    return bytes(call.result())
            except grpc.FutureCancelledError:  # a future's form of CANCELLED: the agent is stopping
                raise DeviceLostError(self.name, f"device {self.name}: CANCELLED (Run)") from None

        return wait

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    @contextmanager
    def _errors(self, method: str) -> Iterator[None]:
        """Raise DeployError for a failed call, or a malformed response: its content is not trusted."""
        try:
            yield
        except grpc.RpcError as error:
            raise _rpc_error(self.name, method, error) from None
        except _MALFORMED:
            raise DeployError(
                f"device {self.name}: malformed response ({method}): update jmsnas there or here"
            ) from None

    def _call(self, name: str, message: bytes, timeout_s: float) -> tuple[dict[str, Any], memoryview]:
        return unpack_message(self._channel.unary_unary(f"/{SERVICE}/{name}")(message, timeout=timeout_s))


def printable(text: str) -> str:
    """Make text of another device safe for a terminal: at most 300 characters, no control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:300])


def _rpc_error(name: str, method: str, error: Any) -> DeployError:
    code, text = error.code(), printable(error.details() or "")
    if not text.startswith("device "):  # gRPC's own text: the address, and the cause
        text = f"device {name}: {text}"
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        lost = text.removeprefix("device ").partition(":")[0]
        return DeviceLostError(lost, f"{text} ({method}, {code.name}). See: jmsnas doctor")
    return DeployError(f"{text} ({method}, {code.name})")
