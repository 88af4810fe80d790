"""How the host fares while it measures, and what of it the user should know.

Two rules are those of roboflow/single_artifact_benchmarking, pull request 14: a governor that clocks an idle
core down does not throttle, and a watcher that died certifies nothing.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from jmsnas.profiler.host.sensors import (
    CpuTicks,
    Throttling,
    busy_cores,
    clocks_hz,
    cores_used_by_others,
    governor,
    gpu_clock_hz,
    read_throttling,
    temperature_c,
    ticks,
)

_Value = TypeVar("_Value")
# Long enough for a governor to answer to load, and for 20 ticks of /proc/stat.
_WORK_S = 0.2
_CLOCK_SHARE = 0.05
_HOT_C = 80.0
# A quarter of a core: two readings 0.2 s apart are off by a tick (0.05 cores) a core.
_OTHERS_CORES = 0.25


@dataclass(frozen=True, slots=True)
class HostState:
    """What a host told at one moment; None where it does not tell, or where a reading failed.

    Attributes
    ----------
    clocks_hz
        Clock of every core by name (`cpu0`), Hz.
    busy_cores
        Cores that worked during the reading: only their clocks say how fast a block would run.
    governor
        What sets the clocks, several joined by a comma; `fixed` where lowest and highest are the same.
    gpu_clock_hz
        Clock of the board's own GPU, Hz: recorded, never judged, as an idle one clocks down.
    temperature_c
        The hottest sensor of what computes, degrees Celsius.
    throttle
        What holds the clocks down, or did since the host started.
    others_busy
        Cores that other processes kept busy during the reading.
    ticks
        Processor time so far: two states tell what others took between them.
    """

    clocks_hz: dict[str, int] | None = None
    busy_cores: tuple[str, ...] | None = None
    governor: str | None = None
    gpu_clock_hz: int | None = None
    temperature_c: float | None = None
    throttle: Throttling | None = None
    others_busy: float | None = None
    ticks: CpuTicks | None = None


def busy_wait() -> None:
    """Work for 0.2 s on one core, the lowest of those allowed, so that its clock is that of a busy core."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set[int]()
    try:
        if cores:  # always the same core: clocks of different ones may differ for good
            os.sched_setaffinity(0, {min(cores)})
        end = time.perf_counter() + _WORK_S
        while time.perf_counter() < end:
            pass
    finally:
        if cores:
            os.sched_setaffinity(0, cores)


def read_host_state(root: Path = Path("/"), work: Callable[[], None] = busy_wait) -> HostState:
    """Read how the host fares; never raises, what cannot be read is None.

    Parameters
    ----------
    root
        Where `proc` and `sys` lie.
    work
        Called between two readings of the processor time; clocks are read right after it.
    """
    before = _or_none(ticks, root)
    work()
    clocks, after = _or_none(clocks_hz, root), _or_none(ticks, root)
    return HostState(
        clocks_hz=clocks,
        busy_cores=busy_cores(before, after) if before and after else None,
        governor=_or_none(governor, root),
        gpu_clock_hz=_or_none(gpu_clock_hz, root),
        temperature_c=_or_none(temperature_c, root),
        throttle=_or_none(read_throttling, root),
        others_busy=cores_used_by_others(before, after),
        ticks=after,
    )


def _or_none(read: Callable[[Path], _Value | None], root: Path) -> _Value | None:
    try:
        return read(root)
    except (OSError, ValueError, LookupError):
        return None


def host_warnings(before: HostState, after: HostState) -> tuple[str, ...]:
    """Tell what makes a measurement between two readings doubtful, a line each with what to do about it.

    Give one reading twice to judge a moment. A clock is judged only where its core was busy at both readings.
    """
    judges = (_moved, _throttled, _hot, _crowded, _blind)
    found = [_governed(after), *(judge(before, after) for judge in judges)]
    return tuple(line for line in found if line)


def host_faults_between(before: HostState, after: HostState) -> tuple[str, ...]:
    """Name what makes rows measured between two readings doubtful, in words; none of it is cured by pairing.

    Other processes and the governor are left out: they are told, while `Measurement.interrupted` and the
    clock say whether they did harm. A reading that ended is a fault: a dead watcher certifies nothing.
    """
    found = [judge(before, after) for judge in (_moved, _throttled, _hot)]
    return tuple(line.partition(":")[0] for line in (*found, _vanished(before, after)) if line)


def _governed(state: HostState) -> str:
    if state.governor in (None, "performance", "fixed"):
        return ""
    return (
        f"the governor is {state.governor}, which moves the clock: expected performance. "
        "Run: sudo cpupower frequency-set -g performance (on a Jetson: sudo jetson_clocks)"
    )


def _judged(before: HostState, after: HostState) -> list[tuple[str, int, int]]:
    """Cores busy at both readings, each with its two clocks."""
    old, new = before.clocks_hz or {}, after.clocks_hz or {}
    busy = {*(before.busy_cores or ())} & {*(after.busy_cores or ())} & old.keys() & new.keys()
    return [(core, old[core], new[core]) for core in sorted(busy)]


def _moved(before: HostState, after: HostState) -> str:
    moves = [(abs(new / old - 1), core, old, new) for core, old, new in _judged(before, after) if old]
    share, core, old, new = max(moves, default=(0.0, "", 0, 0))
    if share <= _CLOCK_SHARE:
        return ""
    return (
        f"the clock of {core}, busy both times, went from {old / 1e9:.2f} to {new / 1e9:.2f} GHz: expected "
        "within 5 %. Fix the clock or cool the host, then measure again"
    )


def _throttled(before: HostState, after: HostState) -> str:
    old, new = before.throttle or Throttling(), after.throttle or Throttling()
    signs = [*old.now, *new.now, *(word for word in new.since_start if word not in old.since_start)]
    rises: dict[str, int] = {}
    for counter, count in new.counts.items():
        # The cores of a package share its count, so the largest rise of a kind is told, not the sum.
        kind, rise = counter.partition(" of ")[0], count - old.counts.get(counter, count)
        rises[kind] = max(rises.get(kind, 0), rise)
    signs += [f"{kind} rose by {rise}" for kind, rise in rises.items() if rise > 0]
    if not signs:
        return ""
    return (
        f"the host throttles ({', '.join(dict.fromkeys(signs))}): "
        "cool it or give it a stronger supply, then measure again"
    )


def _hot(before: HostState, after: HostState) -> str:
    found_c = max(before.temperature_c or 0.0, after.temperature_c or 0.0)
    if found_c <= _HOT_C:
        return ""
    return f"the host is at {found_c:.0f} C: expected at most {_HOT_C:.0f} C. Cool it, then measure again"


def _crowded(before: HostState, after: HostState) -> str:
    found = cores_used_by_others(before.ticks, after.ticks)
    if found is None:  # no time has passed between them
        found = max(before.others_busy or 0.0, after.others_busy or 0.0)
    if found <= _OTHERS_CORES:
        return ""
    cores = f" of {len(after.ticks.total)}" if after.ticks else ""
    return (
        f"other processes keep {found:.1f}{cores} cores busy: expected at most {_OTHERS_CORES}. "
        "End them, or give a longer --budget"
    )


def _blind(before: HostState, after: HostState) -> str:
    unknown = [] if _judged(before, after) else ["clocks"]
    old, new = before.throttle, after.throttle
    if old is None or new is None or {*old.sources} - {*new.sources} or _fell(old.counts, new.counts):
        unknown.append("throttling")
    if before.temperature_c is not None and after.temperature_c is None:
        unknown.append("temperature")
    if unknown:
        reason = f"no reading of {' and '.join(unknown)}"
    elif old and old.since_start and not _throttled(before, after):
        # The firmware's bits stay set until the next start: a second event leaves no trace.
        reason = f"{' and '.join(old.since_start)} since the start hides any later one. Restart the host"
    else:
        return ""
    return f"cannot tell whether the clock was steady: {reason}. Measure twice and compare"


def _vanished(before: HostState, after: HostState) -> str:
    names = ("clocks_hz", "temperature_c", "throttle")
    lost = [name for name in names if getattr(before, name) is not None and getattr(after, name) is None]
    old, new = before.throttle, after.throttle
    if old and new and ({*old.sources} - {*new.sources} or _fell(old.counts, new.counts)):
        lost.append("throttle")
    words = ", ".join(name.partition("_")[0] for name in lost)
    return f"the host stopped telling its {words}: it may have throttled unseen" if lost else ""


def _fell(old: dict[str, int], new: dict[str, int]) -> bool:
    return any(new.get(counter, count) < count for counter, count in old.items())
