"""A thread that sends the heartbeats of a process, and ends what has waited too long."""

import threading
import time
from collections.abc import Callable

_TICK_S = 0.25
# A tick that is as late as this was delayed with the whole process, which may have unread heartbeats.
_LATE_S = 1.0

Tick = Callable[[float], None]


class Liveness:
    """Calls functions four times a second with the monotonic time, from the first `watch` to `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: set[Tick] = set()
        self._ended = threading.Event()
        self._started = False

    def watch(self, tick: Tick) -> None:
        """Call `tick` from now on; it must return soon, and raise nothing."""
        with self._lock:
            self._watched.add(tick)
            if not self._started:
                self._started = True
                threading.Thread(target=self._run, name="liveness", daemon=True).start()

    def forget(self, tick: Tick) -> None:
        """Stop to call `tick`."""
        with self._lock:
            self._watched.discard(tick)

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def _run(self) -> None:
        last_s = time.monotonic()
        while not self._ended.wait(_TICK_S):
            now_s = time.monotonic()
            with self._lock:
                watched = list(self._watched)
            if now_s - last_s < _LATE_S:
                for tick in watched:
                    tick(now_s)
            last_s = now_s
