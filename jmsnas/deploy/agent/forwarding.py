"""Forward a part's output directly to the next devices, and return their response."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from jmsnas.arrays import Float32Array
from jmsnas.deploy.agent.admission import CallerGoneError, PendingCall, RequestRefusedError
from jmsnas.deploy.parts.manifest import Hop, Manifest
from jmsnas.deploy.transport.channel import SERVICE, Identity, open_channel
from jmsnas.deploy.transport.encoding import encode_tensor, raw_bytes
from jmsnas.deploy.transport.frame import DeviceSpan, TensorHeader, pack_message
from jmsnas.deploy.transport.responses import named_device
from jmsnas.deploy.transport.run_response import ExpectedResponse, parse_run_response
from jmsnas.errors import DeployError

RUN_METHOD = f"/{SERVICE}/Run"
_REFUSED = grpc.StatusCode.FAILED_PRECONDITION
# Status codes that are passed on to the caller; all others become UNAVAILABLE.
_PASSED_ON = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
}


class Forwarder:
    """Channels to the next devices, kept open; a renewed certificate opens new ones."""

    def __init__(self, identity: Callable[[], Identity | None]) -> None:
        self._identity = identity
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, str], tuple[Identity | None, Any]] = {}
        self._free_s: dict[tuple[str, str], float] = {}

    def method(self, address: str, name: str, path: str = RUN_METHOD) -> Any:
        """Return a unary method of another agent, bytes in and bytes out."""
        identity, key = self._identity(), (address, name)
        with self._lock:
            known, channel = self._channels.get(key, (None, None))
            if channel is None or known != identity:
                channel = open_channel(address, name, identity)
                self._channels[key] = identity, channel
        return channel.unary_unary(path)

    def forward(
        self, manifest: Manifest, header: TensorHeader, y: Float32Array, call: PendingCall
    ) -> tuple[tuple[DeviceSpan, ...], memoryview]:
        """Send `y` to every hop of a part; return the trail behind it, hop by hop, and the common response.

        `header` has the request id, and scale and zero for a uint8 link (a scale of 0: the tensor's range).
        The hops are sent to in the manifest's order, unless their links are paced. Raises RequestRefusedError
        with the name and status code of the first hop that failed, or that did not respond to this request by
        this plan. The calls are cancelled when the caller hangs up.
        """
        messages = [(hop, *self._message(hop, header, y)) for hop in manifest.hops]
        messages.sort(key=lambda entry: entry[2])
        sent = [(hop, self._send(hop, message, due_s, call)) for hop, message, due_s in messages]
        found = {hop.name: _response(hop, future, call) for hop, future in sent}
        trail: tuple[DeviceSpan, ...] = ()
        content: memoryview | None = None
        for hop in manifest.hops:
            expected = ExpectedResponse(header.id, header.epoch, hop.trail, manifest.response_shape)
            spans, own = _checked(found[hop.name], expected)
            if content is not None and own != content:
                names = ", ".join(hop.name for hop in manifest.hops)
                raise RequestRefusedError(_REFUSED, f"devices {names} gave unlike responses to one request")
            trail, content = (*trail, *spans), own
        assert content is not None  # a part that forwards has a hop
        return trail, content

    def _send(self, hop: Hop, message: bytes, due_s: float, call: PendingCall) -> Any:
        """Start to send a message at the time it is due; returns the future of its response."""
        if due_s:
            call.sleep(max(0.0, min(due_s, call.deadline_s) - time.monotonic()))
        timeout_s = max(0.001, call.deadline_s - time.monotonic())
        sent = self.method(hop.address, hop.name).future(message, timeout=timeout_s)
        call.when_gone(sent.cancel)
        return sent

    def _message(self, hop: Hop, header: TensorHeader, y: Float32Array) -> tuple[bytes, float]:
        """Return the message for a hop, and when it is due: at once (0), or after wait and paced link."""
        # A tensor that is only forwarded keeps its scale, and so its bytes.
        values, scale, zero = encode_tensor(y, hop.wire, header.scale, header.zero)
        own = TensorHeader(header.id, header.epoch, hop.wire, y.shape, scale, zero, hop.branch)
        message = pack_message(own, raw_bytes(values))
        ready_s = time.monotonic() + hop.wait_s
        if not hop.pace_bps:
            return message, ready_s if hop.wait_s else 0.0
        with self._lock:  # one message after the other, as on the emulated link
            begins_s = max(ready_s, self._free_s.get((hop.address, hop.name), 0.0))
            free_s = begins_s + 8 * values.nbytes / hop.pace_bps
            self._free_s[hop.address, hop.name] = free_s
        return message, free_s + hop.pace_delay_s

    def close(self) -> None:
        """Close every channel."""
        with self._lock:
            for _, channel in self._channels.values():
                channel.close()
            self._channels.clear()


def _response(hop: Hop, sent: Any, call: PendingCall) -> bytes | RequestRefusedError:
    """Wait for the response of a hop."""
    try:
        response: bytes = sent.result()
    except grpc.FutureCancelledError:  # by this side, or by an agent that is stopping
        code = grpc.StatusCode.UNAVAILABLE
        gone = CallerGoneError() if call.gone else None
        return gone or RequestRefusedError(code, f"device {hop.name}: CANCELLED")
    except grpc.RpcError as error:
        return refusal(hop.name, error, hop.trail)
    return response


def _checked(
    response: bytes | RequestRefusedError, expected: ExpectedResponse
) -> tuple[tuple[DeviceSpan, ...], memoryview]:
    """Return the trail and the body of a hop's response. Raises RequestRefusedError."""
    if isinstance(response, RequestRefusedError):
        raise response
    try:
        header, body, _ = parse_run_response(response, expected)
    except DeployError as error:
        raise RequestRefusedError(_REFUSED, str(error)) from None
    return header.trail, body


def refusal(device: str, error: Any, behind: Sequence[str] = ()) -> RequestRefusedError:
    """Make the refusal of a request from the gRPC error of a call to another device.

    Its text may be about that device or one of those `behind` it.
    """
    code = error.code()
    details = error.details() or ""
    # Texts of an agent begin with "device NAME: "; those of gRPC itself may contain addresses.
    named = named_device(details, (device, *behind))
    from_agent = named and len(details) < 400 and details.isprintable()
    text = details if from_agent else f"device {device}: {code.name}"
    return RequestRefusedError(code if code in _PASSED_ON else grpc.StatusCode.UNAVAILABLE, text)
