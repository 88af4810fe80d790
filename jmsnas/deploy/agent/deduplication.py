"""At-most-once execution: responses are cached by request, and a repeated request gets the same response."""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
MAX_ENTRIES, MAX_AGE_S, MAX_BYTES = 1024, 60.0, 16 << 20


class Claim(Future[T]):
    """The response to a request, with the time it began and the size of the response."""

    def __init__(self, since_s: float) -> None:
        super().__init__()
        self.since_s, self.size_bytes = since_s, 0


class ResponseCache(Generic[T]):
    """Recent responses, bounded by number (1,024), age (60 s) and size (16 MiB)."""

    def __init__(
        self,
        max_entries: int = MAX_ENTRIES,
        max_age_s: float = MAX_AGE_S,
        clock: Callable[[], float] = time.monotonic,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._max_entries, self._max_age_s, self._max_bytes = max_entries, max_age_s, max_bytes
        self._clock = clock
        self._bytes = 0
        self._claims: dict[Hashable, Claim[T]] = {}
        self._lock = threading.Lock()

    def claim(self, key: Hashable) -> tuple[Claim[T], bool]:
        """Return the claim of a request, and whether the caller owns it and must `complete` or `fail` it."""
        with self._lock:
            self._evict(1)
            if (found := self._claims.get(key)) is not None:
                return found, False
            made = self._claims[key] = Claim(self._clock())
            return made, True

    def complete(self, claim: Claim[T], response: T, size_bytes: int = 0) -> None:
        """Set the response, for those who wait and for repeated requests."""
        with self._lock:
            if not claim.done():  # else a branch was late, and it has failed
                claim.size_bytes = size_bytes
                self._bytes += size_bytes
                claim.set_result(response)
            self._evict(0)

    def fail(self, key: Hashable, claim: Claim[T], error: Exception) -> None:
        """Raise `error` for those who wait, and forget the request, so that it may be retried."""
        with self._lock:
            if self._claims.get(key) is claim:
                del self._claims[key]
            if not claim.done():
                claim.set_exception(error)

    def _evict(self, more: int) -> None:
        """Remove finished claims that are too old, or over the limits with `more` claims to come."""
        oldest_s, evicted, left = self._clock() - self._max_age_s, list[Hashable](), len(self._claims)
        for key, claim in self._claims.items():
            if not claim.done():
                continue
            fits = left + more <= self._max_entries and self._bytes <= self._max_bytes
            if fits and claim.since_s >= oldest_s:
                break
            evicted.append(key)
            left, self._bytes = left - 1, self._bytes - claim.size_bytes
        for key in evicted:
            del self._claims[key]
