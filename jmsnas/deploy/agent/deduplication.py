"""At-most-once execution: responses are cached by request, and a repeated request gets the same response."""

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")
MAX_ENTRIES, MAX_AGE_S, MAX_BYTES = 1024, 60.0, 16 << 20


class _Entry(msgspec.Struct, Generic[T], frozen=True):
    """A response, when it was made, and its size."""

    response: T
    since_s: float
    size_bytes: int


class ResponseCache(Generic[T]):
    """Recent responses, bounded by number (1,024), age (60 s) and size (16 MiB).

    Not thread-safe: a lock of its user guards it.
    """

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

    def get(self, key: Hashable) -> T | None:
        """Return the response to a request that was answered; None if it was not, or is forgotten."""
        found = self._entries.get(key)
        return found.response if found and found.since_s >= self._clock() - self._max_age_s else None

    def put(self, key: Hashable, response: T, size_bytes: int = 0) -> None:
        """Keep the response to a request."""
        if (old := self._entries.pop(key, None)) is not None:
            self._bytes -= old.size_bytes
        now_s = self._clock()
        self._entries[key] = _Entry(response, now_s, size_bytes)
        self._bytes += size_bytes
        while self._entries:  # the oldest first
            first, entry = next(iter(self._entries.items()))
            young = entry.since_s >= now_s - self._max_age_s
            if young and len(self._entries) <= self._max_entries and self._bytes <= self._max_bytes:
                return
            del self._entries[first]
            self._bytes -= entry.size_bytes
