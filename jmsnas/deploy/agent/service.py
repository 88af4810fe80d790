"""gRPC methods of an agent: who may call each of them, and which error texts leave the device."""

import platform
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import grpc
import msgspec
from msgspec import Meta

from jmsnas.deploy.agent.forwarding import Forwarder
from jmsnas.deploy.agent.part_lifecycle import AgentParts
from jmsnas.deploy.agent.remote_timing import run_timing_job
from jmsnas.deploy.parts.call_overhead import call_overhead_s
from jmsnas.deploy.parts.torch_probe import probe_torch
from jmsnas.deploy.transport.channel import SERVICE
from jmsnas.deploy.transport.data_link import Target
from jmsnas.deploy.transport.frame import VERSION
from jmsnas.deploy.transport.identity import fingerprint
from jmsnas.deploy.transport.link import measure_link
from jmsnas.deploy.transport.message import Epoch, pack_message, unpack_as, unpack_message
from jmsnas.deploy.transport.refusal import RequestRefusedError, as_refusal, refusal
from jmsnas.deploy.transport.responses import printable
from jmsnas.errors import CertificateError, FrameError
from jmsnas.profiler.host.environment import describe_host

_PACKAGES = ("jmsnas", "numpy", "onnxruntime", "grpcio", "cryptography", "msgspec")
T = TypeVar("T")


class _Empty(msgspec.Struct):
    pass


class _TorchRequest(msgspec.Struct):
    processor: str = "cpu"


class _Signed(msgspec.Struct):
    signature: Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{2}){0,64}\Z")]


class _StageRequest(msgspec.Struct):
    epoch: Epoch


class _RetireRequest(msgspec.Struct):
    below: Epoch


class _LinkRequest(msgspec.Struct):
    address: Annotated[str, Meta(max_length=300)]
    name: Annotated[str, Meta(max_length=64)]
    fingerprint: Annotated[str, Meta(max_length=64)]
    sizes: Annotated[tuple[Annotated[int, Meta(ge=0, le=12 << 20)], ...], Meta(max_length=16)] = ()
    clock: bool = False


class _PutRequest(msgspec.Struct):
    sha256: Annotated[str, Meta(max_length=64)]


class _Settings(Protocol):
    @property
    def emulate(self) -> str: ...


class ServedAgent(Protocol):
    """Interface of `agent.Agent` that the service methods use; `agent` imports this module."""

    name: str
    parts: AgentParts
    forwarder: Forwarder

    @property
    def settings(self) -> _Settings:
        """Settings of the process."""


def rpc_handlers(agent: ServedAgent, leader: str) -> tuple[Any, ...]:
    """Build the gRPC handlers of an agent; `leader` is the fingerprint of its leader, empty without TLS."""
    guard, own = _Guard(agent.name, leader), _LeaderMethods(agent)
    methods = {
        "Describe": guard.leader_only(own.describe, _Empty),
        "Torch": guard.leader_only(own.torch, _TorchRequest),
        "Offer": guard.leader_only(own.offer, _Signed),
        "Allow": guard.leader_only(own.allow, _Signed),
        "Stage": guard.leader_only(own.stage, _StageRequest),
        "Retire": guard.leader_only(own.retire, _RetireRequest),
        "Link": guard.leader_only(own.link, _LinkRequest),
        "Put": guard.leader_only_stream(own.put),
        "Bench": guard.leader_only_stream_out(partial(run_timing_job, agent.parts)),
    }
    return (grpc.method_handlers_generic_handler(SERVICE, methods),)


class _LeaderMethods:
    """Methods that only the leader may call: header and body in, a message out."""

    def __init__(self, agent: ServedAgent) -> None:
        self._agent = agent

    def describe(self, request: _Empty, body: memoryview) -> bytes:
        agent = self._agent
        epoch, content, signature = agent.parts.newest()
        description = {
            "plan": {"manifest": content.decode(), "signature": signature.hex()},
            "emulate": agent.settings.emulate,
            "host": {name: printable(value) for name, value in describe_host().items()},
            "boot": _boot_id(),
            "call_s": call_overhead_s(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        }
        fields = {"name": agent.name, "epoch": epoch, "serving": agent.parts.serving, "data": VERSION}
        return pack_message(fields, msgspec.json.encode(description))

    def torch(self, request: _TorchRequest, body: memoryview) -> bytes:
        return pack_message(probe_torch("cuda" if request.processor == "cuda" else "cpu"))

    def offer(self, request: _Signed, body: memoryview) -> bytes:
        missing = self._agent.parts.offer(bytes(body), bytes.fromhex(request.signature))
        return pack_message({"missing": missing})

    def allow(self, request: _Signed, body: memoryview) -> bytes:
        missing = self._agent.parts.allow(bytes(body), bytes.fromhex(request.signature))
        return pack_message({}, msgspec.json.encode({"missing": missing}))

    def stage(self, request: _StageRequest, body: memoryview) -> bytes:
        return pack_message({"error": self._agent.parts.stage(request.epoch)})

    def retire(self, request: _RetireRequest, body: memoryview) -> bytes:
        self._agent.parts.retire(request.below)
        return pack_message({})

    def link(self, request: _LinkRequest, body: memoryview) -> bytes:
        link = self._agent.forwarder.link(Target(request.name, request.address, request.fingerprint))
        try:
            times = measure_link(link, request.sizes, request.clock)
        except RequestRefusedError as error:
            raise refusal(request.name, error) from None
        return pack_message({}, msgspec.json.encode(times))

    def put(self, messages: Iterator[bytes]) -> bytes:
        request, first = unpack_as(_first(messages), _PutRequest)
        chunks = (unpack_message(message)[1] for message in messages)
        self._agent.parts.receive(request.sha256, chain((first,), chunks))
        return pack_message({})


def _boot_id() -> str:
    """Identify the boot of this host: processes of one boot share one monotonic clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _first(messages: Iterator[bytes]) -> bytes:
    """Wait for the message of a call. Raises FrameError when the caller ends the call without one."""
    for message in messages:
        return message
    raise FrameError("a call without a message")


class _Guard:
    """Authorisation and limits, checked before the message of a call is awaited.

    All methods are registered as streams: gRPC would await the message of a unary call, for an unlimited
    time, before it calls the method.
    """

    def __init__(self, name: str, leader: str) -> None:
        self._name, self._leader = name, leader

    def _caller(self, context: Any) -> str:
        """Fingerprint of the caller's certificate; empty without TLS."""
        if not self._leader:
            return ""
        try:
            return fingerprint(context.auth_context()["x509_pem_cert"][0])
        except (KeyError, IndexError, CertificateError):
            code = grpc.StatusCode.UNAUTHENTICATED
            raise RequestRefusedError(code, "a caller without a certificate") from None

    def _require_leader(self, context: Any) -> None:
        if self._caller(context) != self._leader:
            raise RequestRefusedError(
                grpc.StatusCode.PERMISSION_DENIED, "work from a device that is not the leader"
            )

    def leader_only(self, method: Callable[[T, memoryview], bytes], kind: type[T]) -> Any:
        """Wrap a unary method of the leader, whose header is a `kind`."""

        def call(messages: Iterator[bytes], context: Any) -> bytes:
            self._require_leader(context)
            return method(*unpack_as(_first(messages), kind))

        return grpc.stream_unary_rpc_method_handler(self._aborting(call))

    def leader_only_stream(self, method: Callable[[Iterator[bytes]], bytes]) -> Any:
        """Wrap a method of the leader that receives a stream."""

        def call(messages: Iterator[bytes], context: Any) -> bytes:
            self._require_leader(context)
            return method(messages)

        return grpc.stream_unary_rpc_method_handler(self._aborting(call))

    def leader_only_stream_out(self, method: Callable[[bytes, Any], Iterator[bytes]]) -> Any:
        """Wrap a method of the leader that returns a stream."""

        def call(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
            try:
                self._require_leader(context)
                yield from method(_first(messages), context)
                return
            except Exception as error:
                refused = as_refusal(self._name, error)
            context.abort(refused.code, str(refused))

        return grpc.stream_stream_rpc_method_handler(call)

    def _aborting(
        self, call: Callable[[Iterator[bytes], Any], bytes]
    ) -> Callable[[Iterator[bytes], Any], bytes]:
        def aborting(messages: Iterator[bytes], context: Any) -> bytes:
            if not context.is_active():  # cancelled before it began: spend no time on it
                return b""
            try:
                return call(messages, context)
            except Exception as error:
                refused = as_refusal(self._name, error)
            context.abort(refused.code, str(refused))
            raise AssertionError  # abort has raised

        return aborting
