"""Watch the host while blocks are measured: tell what the user should know, and keep what rows must say."""

import re
import time
from collections.abc import Callable
from functools import partial

from jmsnas.profiler.host.host_state import (
    HostState,
    busy_wait,
    host_faults_between,
    host_warnings,
    read_host_state,
)

# Reads the host; given what to do between two readings of the processor time.
HostReader = Callable[[Callable[[], None]], HostState]
_EVERY_S = 1.0
_LOOK_S = 0.2


def read_host(work: Callable[[], None]) -> HostState:
    """Read this host: the `HostReader` of everyday."""
    return read_host_state(work=work)


class HostMonitor:
    """A reading before, one a second meanwhile (`look`), one after (`end`), and what they say.

    Parameters
    ----------
    read
        Reads the host; nothing is read, told or found where it is None.
    tell, told
        Called with each line the user should know, once; `told` holds those said already.
    """

    def __init__(self, read: HostReader | None, warn: Callable[[str], object], told: set[str]) -> None:
        self.read, self.warn, self.told = read, warn, told
        self.faults: tuple[str, ...] = ()
        self.baseline: HostState | None = None
        self.looked = -_EVERY_S
        self.before = read(busy_wait) if read else None
        if self.before:
            self._tell(host_warnings(self.before, self.before))

    def look(self) -> None:
        """Read once a second at most; what is wrong is in `faults` from then on."""
        if self.read is None or time.monotonic() - self.looked < _EVERY_S:
            return
        self.looked = time.monotonic()
        try:
            # Asleep meanwhile: the cores that work are those that measure.
            state = self.read(partial(time.sleep, _LOOK_S))
        except Exception as error:  # whatever ends the watching, the rows must say so
            found = _unwatched(error)
        else:
            self.baseline = self.baseline or state
            found = host_faults_between(self.baseline, state)
        self.faults = tuple(dict.fromkeys((*self.faults, *found)))

    def end(self) -> tuple[str, ...]:
        """Read once more, tell what the whole time says, and give the faults that no look had seen."""
        if self.read is None or self.before is None:
            return ()
        try:
            after = self.read(busy_wait)
        except Exception as error:  # as in `look`: a dead watcher certifies nothing
            found = _unwatched(error)
        else:
            self._tell(host_warnings(self.before, after))
            found = host_faults_between(self.before, after)
        return tuple(fault for fault in found if fault not in self.faults)

    def _tell(self, lines: tuple[str, ...]) -> None:
        for line in lines:
            # The numbers change from reading to reading, what is to be done about them does not.
            kind = re.sub(r"[\d.]+", "", line)
            if kind not in self.told:
                self.told.add(kind)
                self.warn(line)


def _unwatched(error: Exception) -> tuple[str, ...]:
    return (f"the host could not be watched ({type(error).__name__})",)
