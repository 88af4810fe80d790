"""Admission control of requests: places of callers, one computation at a time, sums of branch outputs.

Every wait ends at its deadline, and when its caller cancels the request or hangs up.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

import grpc

from jmsnas.arrays import Float32Array
from jmsnas.deploy.transport.channel import MAX_QUEUED

T = TypeVar("T")


class RequestRefusedError(Exception):
    """A request that is not served: a gRPC status code, and a text without paths or content."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class CallerGoneError(RequestRefusedError):
    """A request whose caller has cancelled it or hung up."""

    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.UNAVAILABLE, "the caller of this request has hung up")


class PendingCall:
    """A request in progress: the deadline of its waits (monotonic clock), and whether its caller hung up."""

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._lock, self._gone = threading.Lock(), threading.Event()
        self._callbacks: list[Callable[[], object]] = []

    @property
    def gone(self) -> bool:
        """Whether the caller has cancelled the request or hung up."""
        return self._gone.is_set()

    def hang_up(self) -> None:
        """End all waits of the request."""
        with self._lock:
            self._gone.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def when_gone(self, callback: Callable[[], object]) -> None:
        """Call a function when the caller hangs up, at once if it has."""
        with self._lock:
            if not self._gone.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def result(self, future: Future[T], deadline_s: float) -> T:
        """Wait for the result of a future. Raises TimeoutError, CallerGoneError and the future's error."""
        woken = threading.Event()
        future.add_done_callback(lambda _: woken.set())
        self.when_gone(woken.set)
        woken.wait(max(0.0, deadline_s - time.monotonic()))
        if not future.done() and self.gone:
            raise CallerGoneError
        return future.result(0)

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds, or until the caller hangs up."""
        self._gone.wait(seconds)


class Places:
    """A bounded number of places for callers; one caller takes at most `per_caller` of them."""

    def __init__(self, total: int, per_caller: int) -> None:
        self._total, self._per_caller = total, per_caller
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    @contextmanager
    def take(self, caller: str) -> Iterator[None]:
        """Take a place, without waiting. Raises RequestRefusedError when there is none."""
        with self._lock:
            if self._taken.total() >= self._total or self._taken[caller] >= self._per_caller:
                raise RequestRefusedError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests in flight: send fewer, or later"
                )
            self._taken[caller] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[caller] -= 1
                self._taken += Counter()  # removes zeros


class AdmissionQueue:
    """Runs one computation at a time; at most `max_queued` wait, further ones are refused at once."""

    def __init__(self, max_queued: int = MAX_QUEUED) -> None:
        self._max_queued, self._waiting, self._busy = max_queued, 0, False
        self._changed = threading.Condition()

    @contextmanager
    def enter(self, call: PendingCall) -> Iterator[None]:
        """Wait for the processor. Raises RequestRefusedError, CallerGoneError."""
        with self._changed:
            if self._waiting > self._max_queued:
                raise RequestRefusedError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full: send fewer requests, or later"
                )
            self._waiting += 1
            if self._busy:
                call.when_gone(self._notify)
            remaining_s = max(0.0, call.deadline_s - time.monotonic())
            free = self._changed.wait_for(lambda: not self._busy or call.gone, remaining_s)
            self._waiting -= 1
            if call.gone:
                raise CallerGoneError
            if not free:
                code = grpc.StatusCode.DEADLINE_EXCEEDED
                raise RequestRefusedError(code, "the deadline passed in the queue")
            self._busy = True
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
            self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


class BranchSum:
    """Sums the tensors of a request's branches, always in branch order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tensors: dict[Hashable, dict[int, Float32Array]] = {}

    def add(self, key: Hashable, branch: int, x: Float32Array, expected: int) -> Float32Array | None:
        """Add one tensor; return the sum to the caller that completes it, None to the others.

        Floating-point addition is not associative: the fixed order gives the same request the same bits.
        """
        with self._lock:
            tensors = self._tensors.setdefault(key, {})
            tensors[branch] = x
            if len(tensors) < expected:
                return None
            del self._tensors[key]
        first, *others = (tensors[n] for n in sorted(tensors))
        total = first.copy()
        for other in others:
            total += other
        return total

    def withdraw(self, key: Hashable, branch: int) -> bool:
        """Remove the tensor of a branch that stopped waiting; return whether it was the last one."""
        with self._lock:
            tensors = self._tensors.get(key)
            if tensors is None or tensors.pop(branch, None) is None or tensors:
                return False
            del self._tensors[key]
            return True
