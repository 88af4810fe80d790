"""Energy meter of a Jetson from the power of its supply rails, measured by an INA3221.

See the kernel's Documentation/hwmon/ina3221.rst; before JetPack 5 an iio driver reports the power directly.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread

from jmsnas.profiler.host.energy_meters import EnergyMeter

# The chip averages over some milliseconds, and a sample takes two transfers on a slow bus.
_SAMPLE_S = 0.02


def rail_meter(processor: str, root: Path) -> EnergyMeter | str | None:
    """Make the meter of the rail that feeds a processor (`CPU` or `GPU`), else of the whole module.

    Returns the reason where the rail cannot be read, and None where there is no rail. `root` holds `sys`.
    """
    try:
        rails = sorted(_rails(root))
        own = [rail for rail in rails if processor in rail[0].split("_")]
        module = [rail for rail in rails if rail[0].endswith("_IN")]
        if not own + module:
            return None
        label, files = (own + module)[0]
        power_w = partial(_power_w, files)
        power_w()
    except (OSError, ValueError) as error:
        return f"an INA3221 cannot be read ({error})"
    integrator = PowerIntegrator(power_w)
    return EnergyMeter(
        name=f"INA3221 rail {label}",
        counts="all that this rail feeds, as its name says" if own else "the whole module, memory included",
        update_s=_SAMPLE_S,
        read_j=integrator.read_j,
        awake=integrator.awake,
    )


def _power_w(files: tuple[Path, ...]) -> float:
    # Milliwatts, or millivolts and milliamperes.
    return math.prod(int(file.read_text()) / 1000 for file in files)


def _rails(root: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Yield every rail's label, and the files whose product is its power."""
    for name in (root / "sys/class/hwmon").glob("*/name"):
        if name.read_text().strip() == "ina3221":
            # Channels 4 and up repeat these in other units, and their sum.
            for label in name.parent.glob("in[123]_label"):
                channel = label.name[2]
                files = (f"in{channel}_input", f"curr{channel}_input")
                yield (label.read_text().strip(), tuple(name.with_name(file) for file in files))
    for label in (root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio*/rail_name_*"):
        yield (label.read_text().strip(), (label.with_name(f"in_power{label.name[-1]}_input"),))


class PowerIntegrator:
    """Energy from sampled power: a thread samples it, the trapezoidal rule integrates it.

    `power_w` returns the present power in watts, or raises OSError or ValueError where it cannot be read.
    """

    def __init__(
        self,
        power_w: Callable[[], float],
        period_s: float = _SAMPLE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.power_w, self.period_s, self.clock = power_w, period_s, clock
        self._lock, self._joules = Lock(), 0.0
        self._last: tuple[float, float] | None = None

    def read_j(self) -> float:
        """Take a sample and return the joules so far; NaN where it fails."""
        try:
            return self._sample()
        except (OSError, ValueError):
            return math.nan

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Sample on a thread until the context ends; the time before it does not count."""
        self._last, ended = None, Event()
        thread = Thread(target=self._sample_until, args=(ended,), name="power", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _sample_until(self, ended: Event) -> None:
        while not ended.wait(self.period_s):
            # After a sample that failed, the next one spans the gap.
            with suppress(OSError, ValueError):
                self._sample()

    def _sample(self) -> float:
        with self._lock:
            power_w, now_s = self.power_w(), self.clock()
            last_s, last_w = self._last or (now_s, power_w)
            self._joules += (now_s - last_s) * (power_w + last_w) / 2
            self._last = now_s, power_w
            return self._joules
