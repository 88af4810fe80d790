"""Energy of one call of a block, in joules above idle, from an energy meter of the host.

Nothing is estimated: on a host without a meter there is no value, and one line says why.
"""

import time
from collections.abc import Callable
from pathlib import Path

from jmsnas.profiler.host.energy_meters import EnergyMeter, nvml_meter, rapl_meter
from jmsnas.profiler.host.jetson_rails import rail_meter
from jmsnas.profiler.timing.paired_timing import TimedLoop

# At RAPL's update interval of 1 ms the age of the two readings is then 0.2 % of the energy.
MIN_DURATION_S = 0.5
# A slow meter is read over so many of its updates: the age of the readings is then 5 % at most.
_UPDATES = 20
# Least time between two readings of the clock, so that reading it costs nothing.
_CLOCK_EVERY_S = 0.02


def find_meter(processor: str, root: Path = Path("/")) -> EnergyMeter | str:
    """Find an energy meter for a processor, `cpu` or `cuda`, or return in one line why there is none.

    `root` is the folder that holds `sys`.
    """
    found: EnergyMeter | str
    if processor == "cpu":
        found = (
            rapl_meter(root)
            or rail_meter("CPU", root)
            or "no RAPL package in /sys/class/powercap and no INA3221 rail of the CPU in /sys/class/hwmon "
            "(virtual machines and a Raspberry Pi have neither)"
        )
    elif processor == "cuda":
        # The rail first: NVML, where a Jetson has it, does not measure the module's own GPU well.
        found = rail_meter("GPU", root) or nvml_meter()
    else:
        found = f"no energy meter is known for processor {processor!r}: expected cpu or cuda"
    return f"no meter: {found}" if isinstance(found, str) else found


def measure_idle_power_w(
    meter: EnergyMeter,
    seconds: float = MIN_DURATION_S,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Measure the power in watts while this process sleeps; NaN where a reading fails.

    `seconds` is the time to sleep, extended for a slow meter: at least as long as the energy is measured for.
    """
    with meter.awake():
        start_s, start_j = clock(), meter.read_j()
        sleep(_duration_s(seconds, meter))
        elapsed_s, energy_j = clock() - start_s, meter.read_j() - start_j
    return energy_j / elapsed_s


def measure_energy_j(
    meter: EnergyMeter,
    run: TimedLoop,
    idle_power_w: float,
    seconds: float = MIN_DURATION_S,
    clock: Callable[[], float] = time.monotonic,
) -> float | None:
    """Measure the net energy of one call in joules: (gross energy - idle power x time) / calls.

    Gross energy is the meter's count while the block ran in a row; net energy is what the call costs a host
    that is on anyway. Gross joules of one call are net plus `idle_power_w` times its latency.

    `seconds` is the least time to run, extended for a slow meter; `idle_power_w` is from
    `measure_idle_power_w` with the same meter. The result is None where the net energy does not exceed the
    error from the age of the readings (`update_s` times the sum of power under load and idle power), or where
    a reading fails.
    """
    run(1)  # the first call allocates memory and initialises lazily
    calls, loops, least_s = 0, 1, _duration_s(seconds, meter)
    with meter.awake():
        start_s, start_j = clock(), meter.read_j()
        while clock() - start_s < least_s:
            loop_s = run(loops)
            calls += loops
            if loop_s < _CLOCK_EVERY_S:
                loops *= 2
        elapsed_s, gross_j = clock() - start_s, meter.read_j() - start_j
    net_j = gross_j - idle_power_w * elapsed_s
    error_j = (gross_j / elapsed_s + idle_power_w) * meter.update_s
    # A comparison with NaN is False.
    return net_j / calls if net_j > error_j else None


def _duration_s(seconds: float, meter: EnergyMeter) -> float:
    return max(seconds, _UPDATES * meter.update_s)
