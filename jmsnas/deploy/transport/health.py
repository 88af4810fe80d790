"""The gRPC health checking protocol (grpc.health.v1), without protobuf: its two responses are constants."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc

SERVICE = "grpc.health.v1.Health"
# HealthCheckResponse { status = 1 }: SERVING is 1, NOT_SERVING 2.
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
# A watcher occupies a server thread for an unlimited time, and any device with a certificate may watch.
MAX_WATCHERS = 4


class Health:
    """Serving status of an agent, and its `Check` and `Watch` methods."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._serving = False
        self._watchers = threading.BoundedSemaphore(MAX_WATCHERS)

    @property
    def serving(self) -> bool:
        """Whether new requests are accepted."""
        return self._serving

    @serving.setter
    def serving(self, value: bool) -> None:
        with self._changed:
            self._serving = value
            self._changed.notify_all()

    def _content(self) -> bytes:
        return SERVING if self._serving else NOT_SERVING

    def _check(self, requests: Iterator[bytes], context: Any) -> bytes:
        return self._content()

    def _watch(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        if not self._watchers.acquire(blocking=False):
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"there are {MAX_WATCHERS} watchers already: use Check"
            )
        sent = b""
        try:
            while context.is_active():
                with self._changed:
                    if self._content() == sent:
                        self._changed.wait(1.0)
                    now = self._content()
                if now != sent:
                    sent = now
                    yield now
        finally:
            self._watchers.release()

    def handlers(self) -> tuple[Any, ...]:
        """Return the gRPC handlers, for a server."""
        # As streams, whose request is not read: a caller that sends none occupies no thread.
        methods = {
            "Check": grpc.stream_unary_rpc_method_handler(self._check),
            "Watch": grpc.stream_stream_rpc_method_handler(self._watch),
        }
        return (grpc.method_handlers_generic_handler(SERVICE, methods),)
