"""Send a device's output to the next devices directly, and bring their answer back."""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from jmsnas.channel import SERVICE, Identity, open_channel
from jmsnas.deploy.gate import Refused
from jmsnas.deploy.manifest_fields import Hop
from jmsnas.deploy.wire import encode
from jmsnas.frame import Stop, TensorHeader, pack_tensor, unpack_tensor

RUN = f"/{SERVICE}/Run"
# What is told on: the caller's mistakes are not ours, and an unknown code says nothing.
_PASSED_ON = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
}


class Hops:
    """Channels to neighbours, opened once and kept; a renewed certificate opens them anew."""

    def __init__(self, identity: Callable[[], Identity | None]) -> None:
        self._identity = identity
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, str], tuple[Identity | None, Any]] = {}
        self._free_s: dict[tuple[str, str], float] = {}

    def method(self, address: str, name: str, path: str = RUN) -> Any:
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
    ) -> tuple[TensorHeader, bytes]:
        """Send `y` to every hop and give their common answer, its trail that of all.

        `header` says which request, and scale and zero for a uint8 link (a scale of 0: the tensor's own).

        Raises
        ------
        Refused
            With the first hop's name and code that failed.
        """
        messages = [(hop, *self._message(hop, header, y)) for hop in hops]
        calls: list[tuple[Hop, Callable[[], bytes]]] = []
        for hop, message, due_s in sorted(messages, key=lambda entry: entry[2]):
            time.sleep(max(0.0, due_s - time.monotonic()))
            method, timeout_s = self.method(hop.address, hop.name), max(0.001, ends_s - time.monotonic())
            if len(hops) == 1:  # without a future's thread: a tenth of a millisecond less
                calls.append((hop, partial(method, message, timeout=timeout_s)))
            else:
                calls.append((hop, method.future(message, timeout=timeout_s).result))
        found: TensorHeader | None = None
        trail: list[Stop] = []
        content = b""
        failed: Refused | None = None
        for hop, call in calls:
            try:
                answer, body = unpack_tensor(call())
            except grpc.RpcError as error:
                failed = failed or _refused(hop, error)
                continue
            except grpc.FutureCancelledError:  # what a future makes of CANCELLED
                words = f"device {hop.name}: CANCELLED"
                failed = failed or Refused(grpc.StatusCode.UNAVAILABLE, words)
                continue
            found, content = answer, bytes(body)
            trail += answer.trail
        if failed or found is None:
            raise failed or Refused(grpc.StatusCode.INTERNAL, "no hop was called")
        return TensorHeader(found.id, found.epoch, found.dtype, found.shape, trail=tuple(trail)), content

    def _message(self, hop: Hop, header: TensorHeader, y: NDArray[np.float32]) -> tuple[bytes, float]:
        """Make a hop's message, and say when it may leave: at once, or when a paced link has carried it."""
        # What only passes through keeps the scale it came with: the same bytes leave.
        values, scale, zero = encode(y, hop.wire, header.scale, header.zero)
        own = TensorHeader(header.id, header.epoch, hop.wire, y.shape, scale, zero, hop.branch)
        message = pack_tensor(own, values.tobytes())
        if not hop.pace_bps:
            return message, 0.0
        with self._lock:  # one after the other, as on the link that is emulated
            begins_s = max(time.monotonic(), self._free_s.get((hop.address, hop.name), 0.0))
            free_s = begins_s + 8 * values.nbytes / hop.pace_bps
            self._free_s[hop.address, hop.name] = free_s
        return message, free_s + hop.pace_delay_s

    def close(self) -> None:
        """Close every channel."""
        with self._lock:
            for _, channel in self._channels.values():
                channel.close()
            self._channels.clear()


def _refused(hop: Hop, error: Any) -> Refused:
    code = error.code()
    words = error.details() or ""
    told = code in _PASSED_ON
    # Words of a neighbour's agent begin with its name; those of gRPC itself may hold addresses.
    own = words if words.startswith("device ") and len(words) < 300 else f"device {hop.name}: {code.name}"
    return Refused(code if told else grpc.StatusCode.UNAVAILABLE, own)
