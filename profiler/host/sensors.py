"""Single readings of a host, each from files below a root: OSError or ValueError where a file fails.

cpufreq and thermal zones tell on most of Linux; the firmware's `get_throttled` on a Raspberry Pi;
over-current counters and devfreq on a Jetson; `thermal_throttle` counters on Intel (the kernel's
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
# Zones of what computes. Others mislead: a Xavier's PMIC zone reads 100 C whatever it does.
_ZONES = re.compile(r"cpu|gpu|soc|pkg|tj|core|acpitz", re.IGNORECASE)
_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
# Cooling by a lower clock, unlike that by a fan.
_BRAKES = re.compile(r"cpufreq|devfreq|throttle-alert|^Processor$")
_GPUS = re.compile(r"gpu|gm20b|gp10b|gv11b|ga10b|mali|v3d")


@dataclass(frozen=True, slots=True)
class CpuTicks:
    """Processor time since the host started, in ticks of /proc/stat.

    `busy` and `total` by core (`cpu0`), where time that a hypervisor gave to others counts as busy; `own` of
    this process with its threads and the children it has waited for.
    """

    busy: dict[str, int]
    total: dict[str, int]
    own: int


@dataclass(frozen=True, slots=True)
class Throttling:
    """What holds the clocks down.

    Attributes
    ----------
    now
        Reasons at this moment, in words; empty where there is none.
    since_start
        The firmware's reasons at any moment since the board started (Raspberry Pi), those of now included.
    counts
        Throttle events since the host started, by counter.
    sources
        Every file or folder that was asked: one that is missing later has died.
    """

    now: tuple[str, ...] = ()
    since_start: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    sources: tuple[str, ...] = ()


def cores_used_by_others(before: CpuTicks | None, after: CpuTicks | None) -> float | None:
    """How many cores other processes kept busy between two readings; None where nothing tells."""
    if before is None or after is None:
        return None
    cores = sorted(before.total.keys() & after.total.keys())
    passed = sum(after.total[core] - before.total[core] for core in cores)
    busy = sum(after.busy[core] - before.busy[core] for core in cores)
    return max(0.0, (busy - (after.own - before.own)) / passed * len(cores)) if passed > 0 else None


def _word(path: Path) -> str:
    return path.read_text(errors="replace").strip()


def _number(path: Path) -> int:
    return int(_word(path))


def ticks(root: Path) -> CpuTicks:
    """Read the processor time so far (proc(5))."""
    # user nice system idle iowait irq softirq steal; what follows is counted in these already (proc(5))
    lines = [line.split()[:9] for line in (root / "proc/stat").read_text().splitlines()]
    cores = {line[0]: [int(word) for word in line[1:]] for line in lines if re.match(r"cpu\d", line[0])}
    # After the name, which may hold spaces and brackets: utime, stime, cutime, cstime are words 14 to 17.
    own = (root / "proc/self/stat").read_text().rpartition(")")[2].split()[11:15]
    return CpuTicks(
        {core: sum(ticks) - ticks[3] - ticks[4] for core, ticks in cores.items()},
        {core: sum(ticks) for core, ticks in cores.items()},
        sum(map(int, own)),
    )


def busy_cores(before: CpuTicks, after: CpuTicks) -> tuple[str, ...]:
    """Cores that worked more than half of the time between two readings, idle and waiting apart."""
    return tuple(
        core
        for core in sorted(before.total.keys() & after.total.keys())
        if 2 * (after.busy[core] - before.busy[core]) > after.total[core] - before.total[core]
    )


def clocks_hz(root: Path) -> dict[str, int] | None:
    """Clock of every core, Hz, by the name of the core; None where cpufreq is not there."""
    # Not "cpu MHz" of /proc/cpuinfo: in a virtual machine that never moves, whatever the clock does.
    files = sorted((root / _CPU).glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    return {file.parts[-3]: 1000 * _number(file) for file in files} or None


def governor(root: Path) -> str | None:
    """What sets the clocks, several joined by a comma; `fixed` where the limits leave one clock."""
    folders = sorted((root / _CPU).glob("cpu[0-9]*/cpufreq"))
    names = sorted({_word(folder / "scaling_governor") for folder in folders})
    limits = [(folder / "scaling_min_freq", folder / "scaling_max_freq") for folder in folders]
    # jetson_clocks leaves the governor as it is and makes the limits one.
    if all(low.exists() and high.exists() and _number(low) == _number(high) for low, high in limits):
        return "fixed" if folders else None
    return ", ".join(names)


def gpu_clock_hz(root: Path) -> int | None:
    """Clock of the board's own GPU, Hz (devfreq, as on a Jetson); None where there is none."""
    files = sorted((root / "sys/class/devfreq").glob("*/cur_freq"))
    return max((_number(file) for file in files if _GPUS.search(file.parent.name)), default=None)


def _zones(root: Path) -> list[Path]:
    folders = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    return [folder for folder in folders if _ZONES.search(_word(folder / "type"))]


def temperature_c(root: Path) -> float | None:
    """The hottest sensor of what computes, degrees Celsius; None where there is none."""
    files = [zone / "temp" for zone in _zones(root)]
    for sensor in sorted((root / "sys/class/hwmon").glob("*/name")):
        if _word(sensor) in _SENSORS:
            files += sorted(sensor.parent.glob("temp*_input"))
    return max((_number(file) / 1000 for file in files), default=None)


def read_throttling(root: Path) -> Throttling | None:
    """What holds the clock down or did; None where nothing tells."""
    firmware = sorted((root / "sys/devices/platform").glob(_FIRMWARE))
    bits = sum(int(_word(file), 16) for file in firmware[:1])
    now, since_start = _firmware_words(bits), _firmware_words(bits | bits >> 16)
    counters = [
        *(root / _CPU).glob("cpu[0-9]*/thermal_throttle/*_throttle_count"),
        *(root / "sys/class/hwmon").glob("*/oc[0-9]*_event_cnt"),
    ]
    counts = {f"{file.name} of {_owner(file)}": _number(file) for file in sorted(counters)}
    trips = [trip for zone in _zones(root) for trip in sorted(zone.glob("trip_point_*_type"))]
    trips = [trip for trip in trips if _word(trip) in ("passive", "hot", "critical")]
    brakes = [file.parent for file in sorted((root / "sys/class/thermal").glob("cooling_device*/type"))]
    brakes = [brake for brake in brakes if _BRAKES.search(_word(brake / "type"))]
    now += [words for words in map(_tripped, trips) if words]
    now += [f"{_word(brake / 'type')} cools" for brake in brakes if _number(brake / "cur_state") > 0]
    sources = [*counts, *(f"{path.parent.name}/{path.name}" for path in [*firmware, *trips, *brakes])]
    return Throttling(tuple(now), tuple(since_start), counts, tuple(sources)) if sources else None


def _firmware_words(bits: int) -> list[str]:
    return [word for bit, word in enumerate(_FIRMWARE_BITS) if bits >> bit & 1]


def _owner(counter: Path) -> str:
    return counter.parts[-3] if counter.parent.name == "thermal_throttle" else counter.parent.name


def _tripped(trip: Path) -> str:
    limit_c = _number(trip.with_name(trip.name.replace("_type", "_temp"))) / 1000
    found_c = _number(trip.parent / "temp") / 1000
    # Limits that are not set read 0 or less.
    over = 0 < limit_c <= found_c
    return f"{_word(trip.parent / 'type')} at {found_c:.0f} C, its limit {limit_c:.0f} C" if over else ""
