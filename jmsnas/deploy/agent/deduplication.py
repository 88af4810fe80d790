"""At-most-once execution: responses are cached by request, and a repeated request gets the same response."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
MAX_ENTRIES, MAX_AGE_S, MAX_BYTES = 1024, 60.0, 16 << 20


@dataclass(slots=True, eq=False)
class Claim(Generic[T]):
    """A request in progress or finished: once `done` is set it has a `response` or an `error`."""

    done: threading.Event = field(default_factory=threading.Event)
    response: T | None = None
    error: Exception | None = None
    since_s: float = 0.0
    size_bytes: int = 0

    def wait(self, timeout_s: float) -> T | None:
        """Wait for the response; None after the timeout. Raises the error that the request failed with."""
        if not self.done.wait(timeout_s):
            return None
        if self.error is not None:
            raise self.error
        return self.response


class ResponseCache(Generic[T]):
    """Recent responses, bounded by number (1,024), age (60 s) and size (16 MiB)."""

    def __init__(
        self,
        max_entries: int = MAX_ENTRIES,
        max_age_s: float = MAX_AGE_S,
        clock: Callable[[], float] = time.monotonic,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._max_entries, self._max_age_s, self._max_bytes = (max_entries, max_age_s, max_bytes)
        self._clock = clock
        self._bytes = 0
        self._claims: OrderedDict[Hashable, Claim[T]] = OrderedDict()
        self._lock = threading.Lock()

    def claim(self, key: Hashable) -> tuple[Claim[T], bool]:
        """Return the claim of a request, and whether the caller owns it and must `complete` or `fail` it."""
        with self._lock:
            self._evict(1)
            if (found := self._claims.get(key)) is not None:
                return found, False
            made = self._claims[key] = Claim(since_s=self._clock())
            return made, True

    def complete(self, claim: Claim[T], response: T, size_bytes: int = 0) -> None:
        """Set the response, for those who wait and for repeated requests."""
        claim.response = response
        with self._lock:
            claim.size_bytes = size_bytes
            self._bytes += size_bytes
            claim.done.set()
            self._evict(0)

    def fail(self, key: Hashable, claim: Claim[T], error: Exception) -> None:
        """Raise `error` for those who wait, and forget the request, so that it may be retried."""
        with self._lock:
            if self._claims.get(key) is claim:
                del self._claims[key]
        claim.error = error
        claim.done.set()

    def _evict(self, more: int) -> None:
        """Remove finished claims that are too old, or over the limits with `more` claims to come."""
        oldest_s, evicted, left = (self._clock() - self._max_age_s, list[Hashable](), len(self._claims))
        for key, claim in self._claims.items():
            if not claim.done.is_set():
                continue
            fits = left + more <= self._max_entries and self._bytes <= self._max_bytes
            if fits and claim.since_s >= oldest_s:
                break
            evicted.append(key)
            left, self._bytes = left - 1, self._bytes - claim.size_bytes
        for key in evicted:
            del self._claims[key]
