"""The leader's side of one agent: each method of the service as a function, each error one line."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jmsnas.deploy.parts.manifest import signed_epoch
from jmsnas.deploy.parts.torch_probe import TorchInfo
from jmsnas.deploy.transport.channel import CHUNK_BYTES, SERVICE, Identity, open_channel
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.frame import pack_message, unpack_message
from jmsnas.deploy.transport.health import SERVICE as HEALTH
from jmsnas.deploy.transport.health import SERVING
from jmsnas.deploy.transport.link import clock_offset, timed_exchange
from jmsnas.errors import DeployError, FrameError, PartError

# Long enough for a small board to parse a part in a process of its own; the link's size adds to it.
_USUAL_S, _STAGE_S, _PUT_S, _LINK_S, _BENCH_S = 5.0, 60.0, 600.0, 300.0, 86400.0


class DeviceLostError(DeployError):
    """A device that does not answer, or not in time; `device` is its name."""

    def __init__(self, device: str, words: str) -> None:
        super().__init__(words)
        self.device = device


class AgentClient:
    """One agent, as the leader talks to it."""

    def __init__(self, address: AgentAddress, identity: Identity | None) -> None:
        self.name, self.address = address.name, address.address
        self.fingerprint = address.fingerprint
        self._channel = open_channel(address.address, address.name, identity)

    def describe(self) -> dict[str, Any]:
        """Ask what the device is: name, epoch, serving plans, host, versions."""
        with self._reading("Describe"):
            fields, body = self._call("Describe", pack_message({}), _USUAL_S)
            return {**fields, **json.loads(bytes(body))}

    def epoch(self, key: Ed25519PublicKey) -> int:
        """Number of the newest plan the device has, which the holder of `key` signed; 0 for none.

        A device is not believed a number: a large one would leave none for later plans, on any device.
        """
        with self._reading("Describe"):
            told = self.describe()
            if told["epoch"] == 0:
                return 0
            plan = told["plan"]
            try:
                signed = signed_epoch(plan["manifest"].encode(), bytes.fromhex(plan["signature"]), key)
            except PartError:
                signed = 0
            if signed != told["epoch"]:
                raise DeployError(
                    f"device {self.name} has a plan that this leader did not sign: stop its agent, delete "
                    "its store, start it again"
                )
            return signed

    def torch(self, processor: str) -> TorchInfo:
        """Ask what torch is there, and what a call costs on `processor`."""
        with self._reading("Torch"):
            fields, _ = self._call("Torch", pack_message({"processor": processor}), _STAGE_S)
            return TorchInfo(str(fields["version"]), str(fields["cuda"]), float(fields["call_s"]))

    def offer(self, content: bytes, signature: bytes) -> list[str]:
        """Offer a signed plan, and give the digests of the blobs that the device lacks."""
        with self._reading("Offer"):
            fields, _ = self._call("Offer", pack_message({"signature": signature.hex()}, content), _USUAL_S)
            return [str(digest) for digest in fields["missing"]]

    def put(self, sha256: str, content: bytes) -> None:
        """Send a blob."""

        def messages() -> Iterator[bytes]:
            yield pack_message({"sha256": sha256})
            for start in range(0, len(content), CHUNK_BYTES):
                yield pack_message({}, memoryview(content)[start : start + CHUNK_BYTES])

        method = self._channel.stream_unary(f"/{SERVICE}/Put")
        self._answer(lambda: method(messages(), timeout=_PUT_S), "Put")

    def stage(self, epoch: int) -> float:
        """Have the device check and load its part; its largest error on the golden input."""
        with self._reading("Stage"):
            fields, _ = self._call("Stage", pack_message({"epoch": epoch}), _STAGE_S)
            return float(fields["error"])

    def retire(self, below: int) -> None:
        """End all plans older than `below`."""
        self._call("Retire", pack_message({"below": below}), _USUAL_S)

    def link(self, target: AgentAddress, sizes: Sequence[int], clock: bool = False) -> dict[str, Any]:
        """Have the device send to a neighbour; see `jmsnas.deploy.transport.link.measure_link`."""
        fields = {"address": target.address, "name": target.name, "sizes": sizes, "clock": clock}
        with self._reading("Link"):
            _, body = self._call("Link", pack_message(fields), _LINK_S)
            told = dict(json.loads(bytes(body)))
            clocks = [int(told[name]) for name in ("offset_ns", "round_trip_ns")] if clock else []
            if len([int(taken) for taken in told["arrival_ns"]] + clocks) != len(sizes) + len(clocks):
                raise ValueError
            return told

    def allow(self, content: bytes, signature: bytes) -> list[str]:
        """Give the device a signed list of blocks to time; the digests of those that it lacks."""
        with self._reading("Allow"):
            _, body = self._call("Allow", pack_message({"signature": signature.hex()}, content), _USUAL_S)
            return [str(digest) for digest in json.loads(bytes(body))]

    def bench(self, job: Mapping[str, Any], report: Callable[[Any], None]) -> None:
        """Have the device time blocks, and pass on what it tells, event by event."""
        method = self._channel.unary_stream(f"/{SERVICE}/Bench")
        try:
            for message in method(pack_message({}, json.dumps(job).encode()), timeout=_BENCH_S):
                with self._reading("Bench"):
                    event = json.loads(bytes(unpack_message(message)[1]))
                    report(event)
        except grpc.RpcError as error:
            raise _error(self.name, "Bench", error) from None

    def clock(self, exchanges: int = 20) -> tuple[int, int]:
        """The device's clock less this one's, and the least round trip, nanoseconds."""
        method = self._channel.unary_unary(f"/{SERVICE}/Exchange")
        try:
            return clock_offset([timed_exchange(method) for _ in range(exchanges)])
        except grpc.RpcError as error:
            raise _error(self.name, "Exchange", error) from None

    def healthy(self, timeout_s: float = 1.0) -> bool:
        """Whether the agent answers in time that it serves."""
        try:
            method = self._channel.unary_unary(f"/{HEALTH}/Check")
            return bool(method(b"", timeout=timeout_s, wait_for_ready=True) == SERVING)
        except grpc.RpcError:
            return False

    def run(self, message: bytes, timeout_s: float) -> bytes:
        """Send a request to the device, and give the answer that comes back along the chain."""
        return self.start(message, timeout_s)()

    def start(self, message: bytes, timeout_s: float) -> Callable[[], bytes]:
        """Send a request; what is given back waits for its answer. Raises LostDevice, DeployError."""
        call = self._channel.unary_unary(f"/{SERVICE}/Run").future(message, timeout=timeout_s)

        def wait() -> bytes:
            try:
                return bytes(call.result())
            except grpc.RpcError as error:
                raise _error(self.name, "Run", error) from None
            except grpc.FutureCancelledError:  # what a future makes of CANCELLED: the device is going
                raise DeviceLostError(self.name, f"device {self.name}: CANCELLED (Run)") from None

        return wait

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    @contextmanager
    def _reading(self, method: str) -> Iterator[None]:
        """Say in one line that an answer is none: a device is trusted with its own part, no further."""
        try:
            yield
        except (FrameError, KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError):
            raise DeployError(
                f"device {self.name}: an answer that cannot be read ({method}): update jmsnas there or here"
            ) from None

    def _call(self, name: str, message: bytes, timeout_s: float) -> tuple[dict[str, Any], memoryview]:
        method = self._channel.unary_unary(f"/{SERVICE}/{name}")
        return self._answer(lambda: method(message, timeout=timeout_s), name)

    def _answer(self, call: Any, name: str) -> tuple[dict[str, Any], memoryview]:
        try:
            return unpack_message(call())
        except grpc.RpcError as error:
            raise _error(self.name, name, error) from None


def printable(words: str) -> str:
    """What another device says, for a terminal: at most 300 characters, none of which moves its cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in words[:300])


def _error(name: str, method: str, error: Any) -> DeployError:
    code, words = error.code(), printable(error.details() or "")
    if not words.startswith("device "):  # gRPC's own words: what it tried to reach, and why not
        words = f"device {name}: {words}"
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        lost = words.removeprefix("device ").partition(":")[0]
        return DeviceLostError(lost, f"{words} ({method}, {code.name}). See: jmsnas doctor")
    return DeployError(f"{words} ({method}, {code.name})")
