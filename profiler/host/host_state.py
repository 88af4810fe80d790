"""State of the host (clocks, temperature, throttling, load), and the warnings and faults between two states.

Two rules are from roboflow/single_artifact_benchmarking, pull request 14: a governor that lowers the clock of
an idle core is no throttling, and a failed monitor proves nothing.
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
    cores_used_by_others,
    read_clocks_hz,
    read_cpu_ticks,
    read_governor,
    read_temperature_c,
    read_throttling,
)

_Value = TypeVar("_Value")
# Long enough for a governor to react to load, and for 20 ticks of /proc/stat.
_WORK_S = 0.2
_MAX_CLOCK_CHANGE = 0.05
_MAX_C = 80.0
# A quarter of a core: over 0.2 s the error of two readings is a tick (0.05 cores) per core.
_MAX_OTHERS_CORES = 0.25


@dataclass(frozen=True, slots=True)
class HostState:
    """State of a host at one moment; None where it is not available, or where a reading failed.

    Attributes
    ----------
    clocks_hz
        Clock of every core by name (`cpu0`), Hz.
    busy_cores
        Cores that were busy during the reading: only their clocks show how fast a block would run.
    governor
        cpufreq governors, joined by commas; `fixed` where the lowest and highest clock are the same.
    temperature_c
        The hottest processor sensor, degrees Celsius.
    throttle
        Signs of throttling, now or since the host started.
    others_busy
        Number of cores that other processes kept busy during the reading.
    ticks
        Processor time so far; between two states, the time that other processes used.
    """

    clocks_hz: dict[str, int] | None = None
    busy_cores: tuple[str, ...] | None = None
    governor: str | None = None
    temperature_c: float | None = None
    throttle: Throttling | None = None
    others_busy: float | None = None
    ticks: CpuTicks | None = None


def busy_wait() -> None:
    """Keep the lowest allowed core busy for 0.2 s, so that its clock is that of a busy core."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set[int]()
    try:
        if cores:  # always the same core: different cores may have different clocks
            os.sched_setaffinity(0, {min(cores)})
        end = time.perf_counter() + _WORK_S
        while time.perf_counter() < end:
            pass
    finally:
        if cores:
            os.sched_setaffinity(0, cores)


def read_host_state(work: Callable[[], None], root: Path = Path("/")) -> HostState:
    """Read the state of the host; never raises, and gives None for values that cannot be read.

    `work` is called between two readings of the processor time; clocks are read right after it. `root` is the
    folder that holds `proc` and `sys`.
    """
    before = _or_none(read_cpu_ticks, root)
    work()
    clocks, after = _or_none(read_clocks_hz, root), _or_none(read_cpu_ticks, root)
    return HostState(
        clocks_hz=clocks,
        busy_cores=busy_cores(before, after) if before and after else None,
        governor=_or_none(read_governor, root),
        temperature_c=_or_none(read_temperature_c, root),
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
    """Describe what makes a measurement between two states unreliable, a line each with what to do about it.

    Give one state twice to check a moment. A clock is checked only where its core was busy in both states.
    """
    checks = (_clock_changed, _throttled, _hot, _loaded, _unknown)
    found = [_governed(after), *(check(before, after) for check in checks)]
    return tuple(line for line in found if line)


def host_faults_between(before: HostState, after: HostState) -> tuple[str, ...]:
    """Describe what makes rows measured between two states unreliable in spite of paired timing.

    Other processes and the governor are only warned of: `Measurement.interrupted` and the clock show whether
    they had an effect. A value that is no longer available is a fault, as it proves nothing.
    """
    found = [check(before, after) for check in (_clock_changed, _throttled, _hot)]
    return tuple(line.partition(":")[0] for line in (*found, _lost(before, after)) if line)


def _governed(state: HostState) -> str:
    if state.governor in (None, "performance", "fixed"):
        return ""
    return (
        f"the governor is {state.governor}, which moves the clock: expected performance. "
        "Run: sudo cpupower frequency-set -g performance (on a Jetson: sudo jetson_clocks)"
    )


def _busy_clocks(before: HostState, after: HostState) -> list[tuple[str, int, int]]:
    """Return the cores busy in both states, each with its two clocks."""
    old, new = before.clocks_hz or {}, after.clocks_hz or {}
    busy = {*(before.busy_cores or ())} & {*(after.busy_cores or ())} & old.keys() & new.keys()
    return [(core, old[core], new[core]) for core in sorted(busy)]


def _clock_changed(before: HostState, after: HostState) -> str:
    changes = [(abs(new / old - 1), core, old, new) for core, old, new in _busy_clocks(before, after) if old]
    change, core, old, new = max(changes, default=(0.0, "", 0, 0))
    if change <= _MAX_CLOCK_CHANGE:
        return ""
    return (
        f"the clock of {core}, busy both times, went from {old / 1e9:.2f} to {new / 1e9:.2f} GHz: expected "
        "within 5 %. Fix the clock or cool the host, then measure again"
    )


def _throttled(before: HostState, after: HostState) -> str:
    old, new = before.throttle or Throttling(), after.throttle or Throttling()
    signs = [*old.now, *new.now, *(reason for reason in new.since_start if reason not in old.since_start)]
    rises: dict[str, int] = {}
    for counter, count in new.counts.items():
        # The cores of a package share its count: the largest rise of a kind counts, not the sum.
        kind, rise = (counter.partition(" of ")[0], count - old.counts.get(counter, count))
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
    if found_c <= _MAX_C:
        return ""
    return f"the host is at {found_c:.0f} C: expected at most {_MAX_C:.0f} C. Cool it, then measure again"


def _loaded(before: HostState, after: HostState) -> str:
    found = cores_used_by_others(before.ticks, after.ticks)
    if found is None:  # no time has passed between the states
        found = max(before.others_busy or 0.0, after.others_busy or 0.0)
    if found <= _MAX_OTHERS_CORES:
        return ""
    cores = f" of {len(after.ticks.total)}" if after.ticks else ""
    return (
        f"other processes keep {found:.1f}{cores} cores busy: expected at most {_MAX_OTHERS_CORES}. "
        "End them, or give a longer --budget"
    )


def _unknown(before: HostState, after: HostState) -> str:
    unknown = [] if _busy_clocks(before, after) else ["clocks"]
    old, new = before.throttle, after.throttle
    if old is None or new is None or _throttling_lost(old, new):
        unknown.append("throttling")
    if before.temperature_c is not None and after.temperature_c is None:
        unknown.append("temperature")
    if unknown:
        reason = f"no reading of {' and '.join(unknown)}"
    elif old and old.since_start and not _throttled(before, after):
        # The firmware's bits stay set until the next start, so that a second event cannot be detected.
        reason = f"{' and '.join(old.since_start)} since the start hides any later one. Restart the host"
    else:
        return ""
    return f"cannot determine whether the clock was steady: {reason}. Measure twice and compare"


def _lost(before: HostState, after: HostState) -> str:
    names = ("clocks_hz", "temperature_c", "throttle")
    lost = [name for name in names if getattr(before, name) is not None and getattr(after, name) is None]
    old, new = before.throttle, after.throttle
    if old and new and _throttling_lost(old, new):
        lost.append("throttle")
    values = ", ".join(name.partition("_")[0] for name in lost)
    return f"the host no longer reports its {values}: it may have throttled unnoticed" if lost else ""


def _throttling_lost(old: Throttling, new: Throttling) -> bool:
    decreased = any(new.counts.get(counter, count) < count for counter, count in old.counts.items())
    return decreased or not {*old.sources} <= {*new.sources}
