"""Joules of a block: a meter read before and after many calls, without what the idle host draws.

Nothing is estimated: where nothing counts energy there is no number, and one line that says why.
"""

import time
from collections.abc import Callable
from pathlib import Path

from jmsnas.profiler.host.energy_meters import EnergyMeter, nvml_meter, rapl_meter
from jmsnas.profiler.host.jetson_rails import rail_meter
from jmsnas.profiler.timing.paired_timing import TimedLoop

# At RAPL's update of 1 ms the two readings are then off by 0.2 % of what is drawn.
MIN_DURATION_S = 0.5
# Where a meter is slow the time is stretched to so many of its updates: the readings are off by 5 % at most.
_UPDATES = 20
# Calls between two looks at the clock take this long, so that looking costs nothing.
_LOOK_S = 0.02


def find_meter(processor: str, root: Path = Path("/")) -> EnergyMeter | None:
    """Find what counts the energy of a processor, `cpu` or `cuda`; None where nothing does.

    `root` is where `sys` lies.
    """
    found = _meter_or_why(processor, root)
    return found if isinstance(found, EnergyMeter) else None


def no_meter_reason(processor: str, root: Path = Path("/")) -> str:
    """Say in one line why `find_meter` finds none, and what to do; empty where it finds one."""
    found = _meter_or_why(processor, root)
    return "" if isinstance(found, EnergyMeter) else f"no meter: {found}"


def _meter_or_why(processor: str, root: Path) -> EnergyMeter | str:
    if processor == "cpu":
        return (
            rapl_meter(root)
            or rail_meter("CPU", root)
            or "no RAPL package in /sys/class/powercap and no INA3221 rail of the CPU in /sys/class/hwmon "
            "(virtual machines and a Raspberry Pi have neither)"
        )
    if processor == "cuda":
        # First the rail: where a Jetson has NVML too, that does not know the module's own GPU well.
        return rail_meter("GPU", root) or nvml_meter()
    return f"what counts the energy of {processor!r} is not known, only of cpu and cuda"


def measure_idle_power_w(
    meter: EnergyMeter,
    seconds: float = MIN_DURATION_S,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Watts that the meter counts while this process sleeps; NaN where a reading fails.

    Parameters
    ----------
    meter
        What to read.
    seconds
        How long to sleep; longer where the meter is slow. At least as long as the energy is measured for.
    sleep, clock
        What waits so many seconds; seconds that never step back.
    """
    with meter.awake():
        began_s, began_j = clock(), meter.read_j()
        sleep(_stretched_s(seconds, meter))
        passed_s, drawn_j = clock() - began_s, meter.read_j() - began_j
    return drawn_j / passed_s


def measure_energy_j(
    meter: EnergyMeter,
    run: TimedLoop,
    idle_power_w: float,
    seconds: float = MIN_DURATION_S,
    clock: Callable[[], float] = time.monotonic,
) -> float | None:
    """Net joules of one call: (gross - idle power x time) / calls.

    Gross is all that the meter counted while the block ran in a row. What the same host draws while nothing
    runs is taken away: net is what the call costs a host that is on anyway. Gross joules of a call are net
    plus `idle_power_w` times its latency.

    Parameters
    ----------
    meter
        What to read.
    run
        Runs the block so many times in a row and gives the seconds that took.
    idle_power_w
        From `idle_w`, of the same meter.
    seconds
        How long to run at least; longer where the meter is slow.
    clock
        Seconds that never step back.

    Returns
    -------
    float or None
        None where net is not above what the age of the readings can account for (`update_s` times the power
        under load and the idle power together), or where a reading fails.
    """
    run(1)  # the first call pays for memory and lazy set-up
    calls, loops, least_s = 0, 1, _stretched_s(seconds, meter)
    with meter.awake():
        began_s, began_j = clock(), meter.read_j()
        while clock() - began_s < least_s:
            took_s = run(loops)
            calls += loops
            if took_s < _LOOK_S:
                loops *= 2
        passed_s, gross_j = clock() - began_s, meter.read_j() - began_j
    net_j = gross_j - idle_power_w * passed_s
    doubt_j = (gross_j / passed_s + idle_power_w) * meter.update_s
    # NaN is not above anything.
    return net_j / calls if net_j > doubt_j else None


def _stretched_s(seconds: float, meter: EnergyMeter) -> float:
    return max(seconds, _UPDATES * meter.update_s)
