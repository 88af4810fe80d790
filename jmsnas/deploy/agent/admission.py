"""Admission control of requests: places of callers, and one computation at a time."""

import threading
import time
from collections.abc import Callable

import grpc

from jmsnas.deploy.transport.channel import MAX_QUEUED
from jmsnas.deploy.transport.refusal import RequestRefusedError

# A thread that waits for the processor reads what arrives on its connection as often as this.
MEANWHILE_S = 0.005


class Places:
    """A bounded number of places for callers; one caller takes at most `per_caller` of them.

    Not thread-safe: a lock of its user guards it.

    Attributes
    ----------
    taken
        Number of places that are taken.
    """

    def __init__(self, total: int, per_caller: int) -> None:
        self._total, self._per_caller = total, per_caller
        self._taken: dict[str, int] = {}
        self.taken = 0

    def take(self, caller: str) -> None:
        """Take a place. Raises RequestRefusedError when there is none."""
        own = self._taken.get(caller, 0)
        if self.taken >= self._total or own >= self._per_caller:
            raise RequestRefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests in flight: send fewer, or later"
            )
        self.taken += 1
        self._taken[caller] = own + 1

    def leave(self, caller: str) -> None:
        """Give a place back."""
        self.taken -= 1
        self._taken[caller] -= 1
        if not self._taken[caller]:
            del self._taken[caller]


class Processor:
    """Runs one computation at a time; at most `max_queued` requests wait, further ones are refused."""

    def __init__(self, max_queued: int = MAX_QUEUED) -> None:
        self._max_queued, self._waiting = max_queued, 0
        self._counting, self._running = threading.Lock(), threading.Lock()

    @property
    def full(self) -> bool:
        """Whether the next request would be refused."""
        return self._waiting > self._max_queued

    def enqueue(self) -> None:
        """Count a waiting request, before `acquire` or `leave`.

        Raises RequestRefusedError when too many wait.
        """
        with self._counting:
            if self._waiting > self._max_queued:
                raise RequestRefusedError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full: send fewer requests, or later"
                )
            self._waiting += 1

    def leave(self) -> None:
        """Count a request that does not wait any more."""
        with self._counting:
            self._waiting -= 1

    def acquire(self, deadline_s: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait for the processor, as a counted request; `meanwhile` is called every 5 ms of the wait.

        Call `release` after the computation. Raises RequestRefusedError after the deadline, and what
        `meanwhile` raises.
        """
        try:
            acquired = time.monotonic() < deadline_s and self._running.acquire(blocking=False)
            while not acquired and (left_s := deadline_s - time.monotonic()) > 0:
                acquired = self._running.acquire(timeout=min(left_s, MEANWHILE_S))
                if not acquired:
                    meanwhile()
        finally:
            self.leave()
        if not acquired:
            raise RequestRefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed in the queue")

    def release(self) -> None:
        """Let the next request compute."""
        self._running.release()
