"""Which cores a process that measures stays on. No torch here: an agent needs it too."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def on_idlest_cores(threads: int) -> Iterator[None]:
    """Stay on as many cores as there are threads, the idlest now, where the operating system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    _stay_on(idlest_cores(cores, threads), threads)
    try:
        yield
    finally:
        _stay_on(cores, threads)


def _stay_on(cores: set[int], threads: int) -> None:
    """Keep this thread on these cores; where a block runs in several, all of this process."""
    known = Path("/proc/self/task")
    # The run time made its threads before. One alone shares its core with none that shows progress.
    ids = [path.name for path in known.iterdir()] if threads > 1 and known.is_dir() else ["0"]
    for thread in ids:
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.sched_setaffinity(int(thread), cores)


def idlest_cores(
    cores: set[int], count: int = 1, watch_s: float = 0.05, stat: Path = Path("/proc/stat")
) -> set[int]:
    """Which of `cores` had most idle time while watched; those of the highest numbers where nothing tells."""
    before = _idle_ticks(stat)
    time.sleep(watch_s)
    after = _idle_ticks(stat)
    idle = sorted(cores, key=lambda core: (after.get(core, 0) - before.get(core, 0), core))
    return {*idle[-count:]}


def _idle_ticks(stat: Path) -> dict[int, int]:
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
    except OSError:
        return {}
    return {int(line[0][3:]): int(line[4]) for line in lines if line and line[0][:3] == "cpu" and line[0][3:]}
