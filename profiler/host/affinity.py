"""Bind a measuring process to idle cores; does not import torch, as agents use it too."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def on_idlest_cores(threads: int) -> Iterator[None]:
    """Bind to as many cores as there are threads, the idlest ones, where the operating system supports it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    _bind(idlest_cores(cores, threads), threads)
    try:
        yield
    finally:
        _bind(cores, threads)


def _bind(cores: set[int], threads: int) -> None:
    """Bind this thread to cores; for a block that runs in several threads, all threads of the process."""
    tasks = Path("/proc/self/task")
    # The runtime has created its threads already. A block of one thread needs this thread only: the one that
    # shows progress must not share its core.
    ids = [path.name for path in tasks.iterdir()] if threads > 1 and tasks.is_dir() else ["0"]
    for thread in ids:
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread), cores)


def idlest_cores(
    cores: set[int], count: int = 1, watch_s: float = 0.05, stat: Path = Path("/proc/stat")
) -> set[int]:
    """Select the cores with most idle time over `watch_s` seconds; the highest numbers where unknown."""
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
