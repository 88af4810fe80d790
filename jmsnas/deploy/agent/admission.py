"""Admission control of requests: one computation at a time, a bounded queue, and sums of branch outputs."""

import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import grpc

from jmsnas.arrays import Float32Array
from jmsnas.deploy.transport.channel import MAX_QUEUED


class RequestRefusedError(Exception):
    """A request that is not served: a gRPC status code, and a text without paths or content."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class AdmissionQueue:
    """Runs one computation at a time; at most `max_queued` wait, further ones are refused at once."""

    def __init__(self, max_queued: int = MAX_QUEUED) -> None:
        self._max_queued, self._waiting = max_queued, 0
        self._count, self._busy = threading.Lock(), threading.Lock()

    @contextmanager
    def enter(self, deadline_s: float) -> Iterator[None]:
        """Wait for the processor until the deadline (monotonic clock). Raises RequestRefusedError."""
        with self._count:
            if self._waiting > self._max_queued:
                raise RequestRefusedError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full: send fewer requests, or later"
                )
            self._waiting += 1
        try:
            entered = self._busy.acquire(timeout=max(0.0, deadline_s - time.monotonic()))
        finally:
            with self._count:
                self._waiting -= 1
        if not entered:
            raise RequestRefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed in the queue")
        try:
            yield
        finally:
            self._busy.release()


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
