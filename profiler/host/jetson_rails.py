"""The supply rails of a Jetson: an INA3221 tells their voltage and current, which become energy here.

The kernel's Documentation/hwmon/ina3221.rst; before JetPack 5 an iio driver tells the power itself.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread

from jmsnas.profiler.host.energy_meters import EnergyMeter

# The chip's own mean is over some milliseconds, and a sample takes two transfers on a slow bus.
_SAMPLE_S = 0.02


def rail_meter(processor: str, root: Path) -> EnergyMeter | str | None:
    """Make the meter of the rail that names a processor, else of the whole module.

    Parameters
    ----------
    processor
        `CPU` or `GPU`, as the labels of the rails have it.
    root
        Where `sys` lies.

    Returns
    -------
    Meter, str or None
        Why the rail cannot be read; None where no rail is there.
    """
    try:
        rails = sorted(_rails(root))
        own = [rail for rail in rails if processor in rail[0].split("_")]
        whole = [rail for rail in rails if rail[0].endswith("_IN")]
        if not own + whole:
            return None
        label, files = (own + whole)[0]
        power_w = partial(_power_w, files)
        power_w()
    except (OSError, ValueError) as error:
        return f"an INA3221 cannot be read ({error})"
    sampled = PowerIntegrator(power_w)
    return EnergyMeter(
        name=f"INA3221 rail {label}",
        counts="all that this rail feeds, as its name says" if own else "the whole module, memory included",
        update_s=_SAMPLE_S,
        read_j=sampled.read_j,
        awake=sampled.awake,
    )


def _power_w(files: tuple[Path, ...]) -> float:
    # Milliwatts, or millivolts and milliamperes.
    return math.prod(int(file.read_text()) / 1000 for file in files)


def _rails(root: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Every rail's label, and the files whose product is its power."""
    for name in (root / "sys/class/hwmon").glob("*/name"):
        if name.read_text().strip() == "ina3221":
            # Channels 4 and up repeat these in other units, and their sum.
            for label in name.parent.glob("in[123]_label"):
                channel = label.name[2]
                files = (f"in{channel}_input", f"curr{channel}_input")
                yield label.read_text().strip(), tuple(name.with_name(file) for file in files)
    for label in (root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio*/rail_name_*"):
        yield label.read_text().strip(), (label.with_name(f"in_power{label.name[-1]}_input"),)


class PowerIntegrator:
    """Energy of what tells its power only: samples on a thread of their own, summed by the trapezoid rule.

    Parameters
    ----------
    power_w
        The power now, watts; OSError or ValueError where it cannot be read.
    period_s
        Time between two samples, seconds.
    clock
        Seconds that never step back.
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
        """Take a sample and give the joules so far; NaN where it fails."""
        try:
            return self._sample()
        except (OSError, ValueError):
            return math.nan

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Take samples on a thread until the end; the time before does not count."""
        self._last, over = None, Event()
        thread = Thread(target=self._sample_until, args=(over,), name="power", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _sample_until(self, over: Event) -> None:
        while not over.wait(self.period_s):
            # The next sample spans the gap that one which failed leaves.
            with suppress(OSError, ValueError):
                self._sample()

    def _sample(self) -> float:
        with self._lock:
            power_w, now_s = self.power_w(), self.clock()
            last_s, last_w = self._last or (now_s, power_w)
            self._joules += (now_s - last_s) * (power_w + last_w) / 2
            self._last = now_s, power_w
            return self._joules
