"""At-most-once execution: responses are cached by request, and a repeated request gets the same response."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
MAX_ENTRIES, MAX_AGE_S, MAX_BYTES = 1024, 60.0, 16 << 20


class _Entry(NamedTuple, Generic[T]):
    """A response, when it was made, and its size."""

    response: T
    since_s: float
    size_bytes: int


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
        self._entries: dict[Hashable, _Entry[T]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        """Return the response to a request that was answered; None if it was not, or is forgotten."""
        with self._lock:
            found = self._entries.get(key)
            return found.response if found and found.since_s >= self._clock() - self._max_age_s else None

    def put(self, key: Hashable, response: T, size_bytes: int = 0) -> None:
        """Keep the response to a request."""
        with self._lock:
            if (old := self._entries.pop(key, None)) is not None:
                self._bytes -= old.size_bytes
            self._entries[key] = _Entry(response, self._clock(), size_bytes)
            self._bytes += size_bytes
            self._evict()

    def _evict(self) -> None:
        """Remove the oldest entries until all are young enough, and within the limits."""
        oldest_s = self._clock() - self._max_age_s
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if (
                len(self._entries) <= self._max_entries
                and self._bytes <= self._max_bytes
                and entry.since_s >= oldest_s
            ):
                return
            del self._entries[key]
            self._bytes -= entry.size_bytes
