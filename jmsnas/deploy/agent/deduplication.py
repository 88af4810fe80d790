"""At most once: what was answered is remembered, and a request that comes again gets the same answer."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
MOST, KEEP_S, MOST_BYTES = 1024, 60.0, 16 << 20


@dataclass(slots=True, eq=False)
class Claim(Generic[T]):
    """A request under way or answered: `answer` once `done` is set, or `error`, with which it failed."""

    done: threading.Event = field(default_factory=threading.Event)
    answer: T | None = None
    error: Exception | None = None
    since_s: float = 0.0
    size_bytes: int = 0

    def wait(self, timeout_s: float) -> T | None:
        """Wait for the answer; None when it does not come in time. Raises what the request failed with."""
        if not self.done.wait(timeout_s):
            return None
        if self.error is not None:
            raise self.error
        return self.answer


class ResponseCache(Generic[T]):
    """The last 1,024 answers, those of the last 60 s, or the last 16 MiB of them, whichever are fewest."""

    def __init__(
        self,
        most: int = MOST,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = time.monotonic,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._most, self._keep_s, self._clock, self._most_bytes = most, keep_s, clock, most_bytes
        self._bytes = 0
        self._claims: OrderedDict[Hashable, Claim[T]] = OrderedDict()
        self._lock = threading.Lock()

    def claim(self, key: Hashable) -> tuple[Claim[T], bool]:
        """Claim a request: whoever is told True must `answer` or `fail` it, all others wait for that."""
        with self._lock:
            self._forget(1)
            if (found := self._claims.get(key)) is not None:
                return found, False
            made = self._claims[key] = Claim(since_s=self._clock())
            return made, True

    def answer(self, claim: Claim[T], answer: T, size_bytes: int = 0) -> None:
        """Give the answer to all who wait, and to those who ask again."""
        claim.answer = answer
        with self._lock:
            claim.size_bytes = size_bytes
            self._bytes += size_bytes
            claim.done.set()
            self._forget(0)

    def fail(self, key: Hashable, claim: Claim[T], error: Exception) -> None:
        """Tell those who wait; the request may be tried again, as it was never answered."""
        with self._lock:
            if self._claims.get(key) is claim:
                del self._claims[key]
        claim.error = error
        claim.done.set()

    def _forget(self, more: int) -> None:
        """Forget what is too old, and what leaves no room for `more` claims."""
        oldest_s, too_old, left = self._clock() - self._keep_s, list[Hashable](), len(self._claims)
        for key, claim in self._claims.items():
            if not claim.done.is_set():
                continue
            if left + more <= self._most and self._bytes <= self._most_bytes and claim.since_s >= oldest_s:
                break
            too_old.append(key)
            left, self._bytes = left - 1, self._bytes - claim.size_bytes
        for key in too_old:
            del self._claims[key]
