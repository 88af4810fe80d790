"""One computation at a time, a bounded queue before it, and the tensors that are joined behind branches."""

import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np
from numpy.typing import NDArray

from jmsnas.deploy.transport.channel import MAX_QUEUED

Array = NDArray[np.float32]


class RequestRefusedError(Exception):
    """A request that is not served: a gRPC code, and words without paths or content."""

    def __init__(self, code: grpc.StatusCode, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


class AdmissionQueue:
    """Lets one computation in; at most `queue` wait, the next is refused at once."""

    def __init__(self, queue: int = MAX_QUEUED) -> None:
        self._queue, self._waiting = queue, 0
        self._count, self._busy = threading.Lock(), threading.Lock()

    @contextmanager
    def enter(self, ends_s: float) -> Iterator[None]:
        """Wait for the processor until the deadline, on the monotonic clock. Raises Refused."""
        with self._count:
            if self._waiting > self._queue:
                raise RequestRefusedError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full: send less, or later"
                )
            self._waiting += 1
        try:
            entered = self._busy.acquire(timeout=max(0.0, ends_s - time.monotonic()))
        finally:
            with self._count:
                self._waiting -= 1
        if not entered:
            raise RequestRefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed in the queue")
        try:
            yield
        finally:
            self._busy.release()


@dataclass(slots=True, eq=False)
class Meeting:
    """The tensors of one request that have come so far, by branch."""

    tensors: dict[int, Array] = field(default_factory=dict)


class BranchSum:
    """Tensors of several branches meet here and are added up, always in the order of their branches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._meetings: dict[Hashable, Meeting] = {}

    def bring(self, key: Hashable, branch: int, x: Array, expected: int) -> Array | None:
        """Bring one tensor; who brings the last one gets the sum, all others None.

        Floats do not add up alike in any order, and the same request must give the same bits.
        """
        with self._lock:
            meeting = self._meetings.setdefault(key, Meeting())
            meeting.tensors[branch] = x
            if len(meeting.tensors) < expected:
                return None
            del self._meetings[key]
        first, *others = (meeting.tensors[n] for n in sorted(meeting.tensors))
        total = first.copy()
        for other in others:
            total += other
        return total

    def leave(self, key: Hashable, branch: int) -> bool:
        """Take a tensor away whose request gave up waiting; say whether it was the last one there."""
        with self._lock:
            meeting = self._meetings.get(key)
            if meeting is None or meeting.tensors.pop(branch, None) is None or meeting.tensors:
                return False
            del self._meetings[key]
            return True
