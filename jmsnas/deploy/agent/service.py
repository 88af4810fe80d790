"""The methods of an agent: who may call each, and what of an error leaves the device."""

import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from jmsnas.deploy.agent.admission import RequestRefusedError
from jmsnas.deploy.agent.remote_timing import run_timing_job
from jmsnas.deploy.agent.request_handler import RequestHandler
from jmsnas.deploy.parts.call_overhead import call_overhead_s
from jmsnas.deploy.parts.torch_probe import probe_torch
from jmsnas.deploy.transport.channel import SERVICE
from jmsnas.deploy.transport.encoding import decode_tensor
from jmsnas.deploy.transport.frame import pack_message, unpack_message, unpack_tensor
from jmsnas.deploy.transport.identity import fingerprint
from jmsnas.deploy.transport.link_probe import measure_link
from jmsnas.errors import CertificateError, FrameError, PartError
from jmsnas.profiler.host.environment import describe_host

if TYPE_CHECKING:
    from jmsnas.deploy.agent.agent import Agent

Method = Callable[[dict[str, Any], memoryview], bytes]


def rpc_handlers(agent: "Agent", requests: RequestHandler, leader: str) -> tuple[Any, ...]:
    """Make the handlers of an agent's server; `leader` is whose work it accepts, empty without TLS."""
    guard, own = _Guard(agent.name, leader), _Methods(agent)
    unary = {
        "Describe": own.describe,
        "Torch": own.torch,
        "Offer": own.offer,
        "Stage": own.stage,
        "Retire": own.retire,
        "Link": own.link,
        "Allow": own.allow,
    }
    methods = {name: guard.leader_only(method) for name, method in unary.items()}
    methods["Put"] = guard.leader_only_stream(own.receive)
    methods["Bench"] = guard.leader_only_stream_out(partial(run_timing_job, agent.parts))
    methods["Exchange"] = guard.anyone(_exchange)
    methods["Run"] = guard.data(requests)
    return (grpc.method_handlers_generic_handler(SERVICE, methods),)


class _Methods:
    """What the leader may ask of an agent: header fields and body in, a message out."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent

    def describe(self, fields: dict[str, Any], body: memoryview) -> bytes:
        packages = ("jmsnas", "numpy", "onnxruntime", "grpcio", "cryptography")
        agent = self._agent
        epoch, content, signature = agent.parts.newest()
        told = {
            "plan": {"manifest": content.decode(), "signature": signature.hex()},
            "emulate": agent.settings.emulate,
            "host": describe_host(),
            "boot": _boot(),
            "call_s": call_overhead_s(),
            "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        }
        known = {"name": agent.name, "epoch": epoch, "serving": agent.parts.serving}
        return pack_message(known, json.dumps(told).encode())

    def torch(self, fields: dict[str, Any], body: memoryview) -> bytes:
        return pack_message(asdict(probe_torch("cuda" if fields.get("processor") == "cuda" else "cpu")))

    def offer(self, fields: dict[str, Any], body: memoryview) -> bytes:
        return pack_message({"missing": self._agent.parts.offer(bytes(body), _signature(fields))})

    def allow(self, fields: dict[str, Any], body: memoryview) -> bytes:
        missing = self._agent.parts.allow(bytes(body), _signature(fields))
        return pack_message({}, json.dumps(missing).encode())

    def stage(self, fields: dict[str, Any], body: memoryview) -> bytes:
        return pack_message({"error": self._agent.parts.stage(_number(fields, "epoch"))})

    def retire(self, fields: dict[str, Any], body: memoryview) -> bytes:
        self._agent.parts.retire(_number(fields, "below"))
        return pack_message({})

    def link(self, fields: dict[str, Any], body: memoryview) -> bytes:
        method = self._agent.hops.method(
            _text(fields, "address", 300), _text(fields, "name", 64), EXCHANGE_METHOD
        )
        sizes = [n for n in fields.get("sizes", ()) if type(n) is int and 0 <= n <= 12 << 20][:16]
        return pack_message({}, json.dumps(measure_link(method, sizes, bool(fields.get("clock")))).encode())

    def receive(self, messages: Iterator[bytes]) -> bytes:
        fields, first = unpack_message(next(messages))
        pieces = (unpack_message(message)[1] for message in messages)
        self._agent.parts.receive(_text(fields, "sha256", 64), _after(first, pieces))
        return pack_message({})


def _boot() -> str:
    """Tell which start of which host this is: processes that agree have one steady clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


EXCHANGE_METHOD = f"/{SERVICE}/Exchange"


def _exchange(message: bytes) -> bytes:
    """Say when a tensor was there, unpacked: for clocks and links."""
    decode_tensor(*unpack_tensor(message))
    received_ns = time.monotonic_ns()
    return pack_message({"received": received_ns, "sent": time.monotonic_ns()})


class _Guard:
    """Looks at a caller's certificate before anything of a call is read."""

    def __init__(self, name: str, leader: str) -> None:
        self._name, self._leader = name, leader

    def _caller(self, context: Any) -> str:
        """Fingerprint of the caller's certificate; empty without TLS."""
        if not self._leader:
            return ""
        try:
            return fingerprint(context.auth_context()["x509_pem_cert"][0])
        except (KeyError, IndexError, CertificateError):
            raise RequestRefusedError(
                grpc.StatusCode.UNAUTHENTICATED, "a caller without a certificate"
            ) from None

    def _leader_alone(self, context: Any) -> None:
        if self._caller(context) != self._leader:
            raise RequestRefusedError(
                grpc.StatusCode.PERMISSION_DENIED, "work from a device that is not the leader"
            )

    def leader_only(self, method: Method) -> Any:
        """Wrap a unary method that the leader alone may call."""

        def call(message: bytes, context: Any) -> bytes:
            self._leader_alone(context)
            return method(*unpack_message(message))

        return grpc.unary_unary_rpc_method_handler(self._answering(call))

    def leader_only_stream(self, method: Callable[[Iterator[bytes]], bytes]) -> Any:
        """Wrap a method that takes a stream from the leader alone."""

        def call(messages: Iterator[bytes], context: Any) -> bytes:
            self._leader_alone(context)
            return method(messages)

        return grpc.stream_unary_rpc_method_handler(self._answering(call))

    def leader_only_stream_out(self, method: Callable[[bytes, Any], Iterator[bytes]]) -> Any:
        """Wrap a method that the leader alone may call, and that answers with a stream."""

        def call(message: bytes, context: Any) -> Iterator[bytes]:
            try:
                self._leader_alone(context)
                yield from method(message, context)
                return
            except Exception as error:
                code, words = _told(self._name, error)
            context.abort(code, words)

        return grpc.unary_stream_rpc_method_handler(call)

    def anyone(self, method: Callable[[bytes], bytes]) -> Any:
        """Wrap a method for every device that has a certificate of our CA."""

        def call(message: bytes, context: Any) -> bytes:
            self._caller(context)
            return method(message)

        return grpc.unary_unary_rpc_method_handler(self._answering(call))

    def data(self, requests: RequestHandler) -> Any:
        """Wrap the method that takes data; the part knows from whom."""
        return grpc.unary_unary_rpc_method_handler(
            self._answering(lambda message, context: requests.run(message, self._caller(context), context))
        )

    def _answering(self, call: Callable[[Any, Any], bytes]) -> Callable[[Any, Any], bytes]:
        def answering(message: Any, context: Any) -> bytes:
            try:
                return call(message, context)
            except Exception as error:
                code, words = _told(self._name, error)
            context.abort(code, words)
            raise AssertionError  # abort has raised

        return answering


def _told(name: str, error: Exception) -> tuple[grpc.StatusCode, str]:
    """Give the code and words of an error: no path, no content, no traceback leaves the device."""
    if isinstance(error, RequestRefusedError):
        words = error.words if error.words.startswith("device ") else f"device {name}: {error.words}"
        return error.code, words
    if isinstance(error, PartError):
        return grpc.StatusCode.FAILED_PRECONDITION, f"device {name}: {error}"
    if isinstance(error, FrameError):
        return grpc.StatusCode.INVALID_ARGUMENT, f"device {name}: {error}"
    return grpc.StatusCode.INTERNAL, f"device {name}: {type(error).__name__}"


def _text(fields: dict[str, Any], name: str, most: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > most:
        raise FrameError(f"a header whose {name} is no text of at most {most} characters")
    return value


def _signature(fields: dict[str, Any]) -> bytes:
    try:
        return bytes.fromhex(_text(fields, "signature", 128))
    except ValueError:
        raise FrameError("a signature that is not hexadecimal") from None


def _number(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise FrameError(f"a header whose {name} is no whole number")
    return value


def _after(first: memoryview, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
    yield first
    yield from pieces
