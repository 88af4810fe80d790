"""Monitor the host while blocks are measured, for warnings to the user and fault notes in the rows."""

import re
import time
from collections.abc import Callable
from functools import partial

from jmsnas.profiler.host.host_state import HostState, busy_wait, host_faults_between, host_warnings

# Reads the host's state; its argument is called between two readings of the processor time.
HostReader = Callable[[Callable[[], None]], HostState]
_PERIOD_S = 1.0
_SLEEP_S = 0.2


class HostMonitor:
    """Reads the host before a measurement, once a second during it (`look`) and after it (`end`).

    `read` None disables the monitor; `warn` is called with each warning that is not in `warned` already.
    """

    def __init__(self, read: HostReader | None, warn: Callable[[str], object], warned: set[str]) -> None:
        self.read, self.warn, self.warned = read, warn, warned
        self.faults: tuple[str, ...] = ()  # found so far, for the rows measured from now on
        self.baseline: HostState | None = None
        self.last_look_s = -_PERIOD_S
        self.before = read(busy_wait) if read else None
        if self.before:
            self._warn(host_warnings(self.before, self.before))

    def look(self) -> None:
        """Read the host at most once a second, and add what is wrong to `faults`."""
        if self.read is None or time.monotonic() - self.last_look_s < _PERIOD_S:
            return
        self.last_look_s = time.monotonic()
        try:
            # This process sleeps meanwhile: the busy cores are those that measure.
            state = self.read(partial(time.sleep, _SLEEP_S))
        except Exception as error:  # the rows must note that the monitor failed
            found = _unmonitored(error)
        else:
            self.baseline = self.baseline or state
            found = host_faults_between(self.baseline, state)
        self.faults = tuple(dict.fromkeys((*self.faults, *found)))

    def end(self) -> tuple[str, ...]:
        """Read the host once more, warn about the whole time, and return the faults that `look` missed."""
        if self.read is None or self.before is None:
            return ()
        try:
            after = self.read(busy_wait)
        except Exception as error:  # as in `look`
            found = _unmonitored(error)
        else:
            self._warn(host_warnings(self.before, after))
            found = host_faults_between(self.before, after)
        return tuple(fault for fault in found if fault not in self.faults)

    def _warn(self, lines: tuple[str, ...]) -> None:
        for line in lines:
            # Without its numbers, which differ from reading to reading.
            kind = re.sub(r"[\d.]+", "", line)
            if kind not in self.warned:
                self.warned.add(kind)
                self.warn(line)


def _unmonitored(error: Exception) -> tuple[str, ...]:
    return (f"the host could not be monitored ({type(error).__name__})",)
