"""Read processor time, clocks, temperature and throttling of a host from files below /proc and /sys.

Each reader raises OSError or ValueError where a file cannot be read. Sources: cpufreq and thermal zones on
most of Linux; the firmware's `get_throttled` on a Raspberry Pi; over-current counters on a Jetson;
`thermal_throttle` counters on Intel (the kernel's
Documentation/admin-guide/thermal/intel_thermal_throttle.rst).
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

_CPU = "sys/devices/system/cpu"
# soc/soc:firmware up to the Raspberry Pi 4; later boards have an address in the name.
_FIRMWARE = "soc*/*firmware/get_throttled"
# Bit k is now, bit k + 16 since the board started: `vcgencmd get_throttled` in Raspberry Pi's documentation.
_FIRMWARE_BITS = ("under-voltage", "clock capped", "throttled", "soft temperature limit")
# Zones of processors. Others mislead: a Xavier's PMIC zone always reads 100 C.
_ZONES = re.compile(r"cpu|gpu|soc|pkg|tj|core|acpitz", re.IGNORECASE)
_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
# Cooling devices that lower a clock; a fan does not.
_CLOCK_LIMITERS = re.compile(r"cpufreq|devfreq|throttle-alert|^Processor$")


@dataclass(frozen=True, slots=True)
class CpuTicks:
    """Processor time since the host started, in ticks of /proc/stat.

    `busy` and `total` are by core (`cpu0`), where time that a hypervisor gave to other machines counts as
    busy; `own` is that of this process with its threads and the children it has waited for.
    """

    busy: dict[str, int]
    total: dict[str, int]
    own: int


@dataclass(frozen=True, slots=True)
class Throttling:
    """Signs that the clocks are, or were, held down.

    Attributes
    ----------
    now
        Reasons at this moment; empty where there is none.
    since_start
        The firmware's reasons at any moment since the board started (Raspberry Pi), including the present.
    counts
        Throttle events since the host started, by counter.
    sources
        Every file or folder that was read: one that is missing later has failed.
    """

    now: tuple[str, ...] = ()
    since_start: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    sources: tuple[str, ...] = ()


def cores_used_by_others(before: CpuTicks | None, after: CpuTicks | None) -> float | None:
    """Return how many cores other processes kept busy between two readings; None where unknown."""
    if before is None or after is None:
        return None
    cores = sorted(before.total.keys() & after.total.keys())
    elapsed = sum(after.total[core] - before.total[core] for core in cores)
    busy = sum(after.busy[core] - before.busy[core] for core in cores)
    return max(0.0, (busy - (after.own - before.own)) / elapsed * len(cores)) if elapsed > 0 else None


def _text(path: Path) -> str:
    return path.read_text(errors="replace").strip()


def _number(path: Path) -> int:
    return int(_text(path))


def read_cpu_ticks(root: Path) -> CpuTicks:
    """Read the processor time so far (proc(5))."""
    # user nice system idle iowait irq softirq steal; the fields after them are included in these (proc(5))
    lines = [line.split()[:9] for line in (root / "proc/stat").read_text().splitlines()]
    cores = {line[0]: [int(field) for field in line[1:]] for line in lines if re.match(r"cpu\d", line[0])}
    # After the name, which may hold spaces and brackets: utime, stime, cutime, cstime are fields 14 to 17.
    own = (root / "proc/self/stat").read_text().rpartition(")")[2].split()[11:15]
    return CpuTicks(
        {core: sum(ticks) - ticks[3] - ticks[4] for core, ticks in cores.items()},
        {core: sum(ticks) for core, ticks in cores.items()},
        sum(map(int, own)),
    )


def busy_cores(before: CpuTicks, after: CpuTicks) -> tuple[str, ...]:
    """Return the cores that were busy (not idle or waiting for I/O) more than half the time in between."""
    return tuple(
        core
        for core in sorted(before.total.keys() & after.total.keys())
        if 2 * (after.busy[core] - before.busy[core]) > after.total[core] - before.total[core]
    )


def read_clocks_hz(root: Path) -> dict[str, int] | None:
    """Read the clock of every core in Hz, by core name; None without cpufreq."""
    # Not "cpu MHz" of /proc/cpuinfo: in a virtual machine that is constant.
    files = sorted((root / _CPU).glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    return {file.parts[-3]: 1000 * _number(file) for file in files} or None


def read_governor(root: Path) -> str | None:
    """Read the cpufreq governors, joined by commas; `fixed` where the limits allow one clock only."""
    folders = sorted((root / _CPU).glob("cpu[0-9]*/cpufreq"))
    names = sorted({_text(folder / "scaling_governor") for folder in folders})
    limits = [(folder / "scaling_min_freq", folder / "scaling_max_freq") for folder in folders]
    # jetson_clocks does not change the governor; it makes both limits equal.
    if all(low.exists() and high.exists() and _number(low) == _number(high) for low, high in limits):
        return "fixed" if folders else None
    return ", ".join(names)


def _zones(root: Path) -> list[Path]:
    folders = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    return [folder for folder in folders if _ZONES.search(_text(folder / "type"))]


def read_temperature_c(root: Path) -> float | None:
    """Read the hottest processor sensor in degrees Celsius; None where there is none."""
    files = [zone / "temp" for zone in _zones(root)]
    for sensor in sorted((root / "sys/class/hwmon").glob("*/name")):
        if _text(sensor) in _SENSORS:
            files += sorted(sensor.parent.glob("temp*_input"))
    return max((_number(file) / 1000 for file in files), default=None)


def read_throttling(root: Path) -> Throttling | None:
    """Read all signs of throttling; None where the host has no source for them."""
    firmware = sorted((root / "sys/devices/platform").glob(_FIRMWARE))
    bits = sum(int(_text(file), 16) for file in firmware[:1])
    now, since_start = _firmware_reasons(bits), _firmware_reasons(bits | bits >> 16)
    counters = [
        *(root / _CPU).glob("cpu[0-9]*/thermal_throttle/*_throttle_count"),
        *(root / "sys/class/hwmon").glob("*/oc[0-9]*_event_cnt"),
    ]
    counts = {f"{file.name} of {_counter_owner(file)}": _number(file) for file in sorted(counters)}
    trips = [trip for zone in _zones(root) for trip in sorted(zone.glob("trip_point_*_type"))]
    trips = [trip for trip in trips if _text(trip) in ("passive", "hot", "critical")]
    limiters = [file.parent for file in sorted((root / "sys/class/thermal").glob("cooling_device*/type"))]
    limiters = [limiter for limiter in limiters if _CLOCK_LIMITERS.search(_text(limiter / "type"))]
    now += [reason for reason in map(_trip_reason, trips) if reason]
    now += [f"{_text(limiter / 'type')} cools" for limiter in limiters if _number(limiter / "cur_state") > 0]
    sources = [*counts, *(f"{path.parent.name}/{path.name}" for path in [*firmware, *trips, *limiters])]
    return Throttling(tuple(now), tuple(since_start), counts, tuple(sources)) if sources else None


def _firmware_reasons(bits: int) -> list[str]:
    return [reason for bit, reason in enumerate(_FIRMWARE_BITS) if bits >> bit & 1]


def _counter_owner(counter: Path) -> str:
    return counter.parts[-3] if counter.parent.name == "thermal_throttle" else counter.parent.name


def _trip_reason(trip: Path) -> str:
    limit_c = _number(trip.with_name(trip.name.replace("_type", "_temp"))) / 1000
    found_c = _number(trip.parent / "temp") / 1000
    # Limits that are not set read 0 or less.
    exceeded = 0 < limit_c <= found_c
    return f"{_text(trip.parent / 'type')} at {found_c:.0f} C, its limit {limit_c:.0f} C" if exceeded else ""
