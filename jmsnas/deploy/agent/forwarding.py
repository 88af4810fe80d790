"""Send a device's output to the next devices directly, and bring their answer back."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from jmsnas.deploy.agent.admission import RequestRefusedError
from jmsnas.deploy.parts.manifest_fields import Hop
from jmsnas.deploy.transport.channel import MAX_IN_FLIGHT, SERVICE, Identity, open_channel
from jmsnas.deploy.transport.encoding import encode_tensor, raw_bytes
from jmsnas.deploy.transport.frame import TensorHeader, pack_tensor, unpack_tensor

_BRANCHES = 3
RUN_METHOD = f"/{SERVICE}/Run"
# What is told on: the caller's mistakes are not ours, and an unknown code says nothing.
_PASSED_ON = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
}


class Forwarder:
    """Channels to neighbours, opened once and kept; a renewed certificate opens them anew."""

    def __init__(self, identity: Callable[[], Identity | None]) -> None:
        self._identity = identity
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, str], tuple[Identity | None, Any]] = {}
        self._free_s: dict[tuple[str, str], float] = {}
        # Each request under way may wait for several branches; threads are made as they are needed.
        self._pool = ThreadPoolExecutor(_BRANCHES * MAX_IN_FLIGHT, "hop")

    def method(self, address: str, name: str, path: str = RUN_METHOD) -> Any:
        """Give a neighbour's unary method, bytes in and bytes out."""
        identity, key = self._identity(), (address, name)
        with self._lock:
            known, channel = self._channels.get(key, (None, None))
            if channel is None or known != identity:
                channel = open_channel(address, name, identity)
                self._channels[key] = identity, channel
        return channel.unary_unary(path)

    def forward(
        self, hops: Sequence[Hop], header: TensorHeader, y: NDArray[np.float32], ends_s: float
    ) -> tuple[TensorHeader, bytes | memoryview]:
        """Send `y` to every hop and give their common answer, its trail that of all.

        `header` says which request, and scale and zero for a uint8 link (a scale of 0: the tensor's own).

        Raises
        ------
        Refused
            With the first hop's name and code that failed.
        """
        messages = sorted(((hop, *self._message(hop, header, y)) for hop in hops), key=lambda entry: entry[2])
        # The last one in this thread: a chain needs no other.
        others = [self._pool.submit(self._send, *entry, ends_s) for entry in messages[:-1]]
        last = self._send(*messages[-1], ends_s)
        answers = [*(other.result() for other in others), last]
        for answer in answers:
            if isinstance(answer, RequestRefusedError):
                raise answer
        found = [unpack_tensor(answer) for answer in answers if not isinstance(answer, RequestRefusedError)]
        header, content = found[-1]
        trail = tuple(stop for answer, _ in found for stop in answer.trail)
        return replace(header, trail=trail), content

    def _send(self, hop: Hop, message: bytes, due_s: float, ends_s: float) -> bytes | RequestRefusedError:
        """Send a message when it may leave, and wait for its answer."""
        if due_s:
            time.sleep(max(0.0, due_s - time.monotonic()))
        try:
            timeout_s = max(0.001, ends_s - time.monotonic())
            answer: bytes = self.method(hop.address, hop.name)(message, timeout=timeout_s)
        except grpc.RpcError as error:
            return _refused(hop, error)
        return answer

    def _message(self, hop: Hop, header: TensorHeader, y: NDArray[np.float32]) -> tuple[bytes, float]:
        """Make a hop's message, and say when it may leave: at once, or when a paced link has carried it."""
        # What only passes through keeps the scale it came with: the same bytes leave.
        values, scale, zero = encode_tensor(y, hop.wire, header.scale, header.zero)
        own = TensorHeader(header.id, header.epoch, hop.wire, y.shape, scale, zero, hop.branch)
        message = pack_tensor(own, raw_bytes(values))
        if not hop.pace_bps:
            return message, 0.0
        with self._lock:  # one after the other, as on the link that is emulated
            begins_s = max(time.monotonic(), self._free_s.get((hop.address, hop.name), 0.0))
            free_s = begins_s + 8 * values.nbytes / hop.pace_bps
            self._free_s[hop.address, hop.name] = free_s
        return message, free_s + hop.pace_delay_s

    def close(self) -> None:
        """Close every channel."""
        self._pool.shutdown(wait=False)
        with self._lock:
            for _, channel in self._channels.values():
                channel.close()
            self._channels.clear()


def _refused(hop: Hop, error: Any) -> RequestRefusedError:
    code = error.code()
    words = error.details() or ""
    told = code in _PASSED_ON
    # Words of a neighbour's agent begin with its name; those of gRPC itself may hold addresses.
    fine = words.startswith("device ") and len(words) < 300 and words.isprintable()
    own = words if fine else f"device {hop.name}: {code.name}"
    return RequestRefusedError(code if told else grpc.StatusCode.UNAVAILABLE, own)
