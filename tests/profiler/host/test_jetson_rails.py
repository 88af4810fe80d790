import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_hosts import write
from synthetic_meters import HWMON, ina3221, meter_of

from jmsnas.profiler.host.jetson_rails import PowerIntegrator
from jmsnas.profiler.timing.energy import find_meter

IIO = "sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0"
AGX_XAVIER = ({"GPU": (19000, 100), "CPU": (19000, 200), "SOC": (19000, 300)}, {"CV": (19000, 10)})
AGX_ORIN = ({"VDD_GPU_SOC": (19000, 100), "VDD_CPU_CV": (19000, 200), "VIN_SYS_5V0": (5000, 300)},)
ORIN_NANO = ({"VDD_IN": (5000, 900), "VDD_CPU_GPU_CV": (5000, 200), "VDD_SOC": (5000, 300)},)
INPUT_ONLY = ({"VDD_SOC": (5000, 300), "VDD_IN": (5000, 900)},)


@pytest.mark.parametrize(
    ("chips", "cpu", "gpu"),
    [
        (AGX_XAVIER, "CPU", "GPU"),
        (AGX_ORIN, "VDD_CPU_CV", "VDD_GPU_SOC"),
        (ORIN_NANO, "VDD_CPU_GPU_CV", "VDD_CPU_GPU_CV"),
        (INPUT_ONLY, "VDD_IN", "VDD_IN"),
    ],
)
def test_rail_that_names_the_processor_comes_first(
    tmp_path: Path, chips: tuple[dict[str, tuple[int, int]], ...], cpu: str, gpu: str
) -> None:
    write(tmp_path, {"sys/class/hwmon/hwmon0/name": "coretemp"})
    for number, rails in enumerate(chips, start=1):
        ina3221(tmp_path, number, rails)
    found = meter_of("cpu", tmp_path), meter_of("cuda", tmp_path)
    assert [meter.name for meter in found] == [f"INA3221 rail {cpu}", f"INA3221 rail {gpu}"]
    assert all(("whole module" in meter.counts) == meter.name.endswith("_IN") for meter in found)


def test_no_rail_of_use_is_no_meter(tmp_path: Path) -> None:
    ina3221(tmp_path, 1, {"VDD_SOC": (5000, 300)})
    assert "no RAPL package" in str(find_meter("cpu", tmp_path))


@pytest.mark.parametrize("missing", ["in1_input", "curr1_input"])
def test_rail_that_cannot_be_read_says_which_file(tmp_path: Path, missing: str) -> None:
    ina3221(tmp_path, 1, {"CPU": (5000, 300)})
    (tmp_path / (HWMON % 1) / missing).unlink()
    found = str(find_meter("cpu", tmp_path))
    assert found.startswith("no meter: an INA3221 cannot be read (") and missing in found


@pytest.mark.parametrize(("processor", "watts"), [("cpu", 19 * 0.25), ("cuda", 1.5)])
def test_rail_of_either_driver_gives_its_watts(tmp_path: Path, processor: str, watts: float) -> None:
    ina3221(tmp_path, 1, {"CPU": (19000, 250)})
    write(tmp_path, {f"{IIO}/rail_name_2": "POM_5V_GPU", f"{IIO}/in_power2_input": 1500})
    meter = meter_of(processor, tmp_path)
    with meter.awake():
        times_s = [time.monotonic()]
        before_j = meter.read_j()
        times_s.append(time.monotonic())
        time.sleep(0.05)
        times_s.append(time.monotonic())
        drawn_j = meter.read_j() - before_j
        times_s.append(time.monotonic())
    least_s, most_s = times_s[2] - times_s[1], times_s[3] - times_s[0]
    assert watts * least_s <= drawn_j * (1 + 1e-9) and drawn_j <= watts * most_s * (1 + 1e-9)


def readings(*values: float) -> Callable[[], float]:
    return iter(values).__next__


def test_trapezoids_by_hand() -> None:
    sampled = PowerIntegrator(readings(2, 4, 4, 0), clock=readings(10, 11, 13, 13.5))
    # 0; (2 + 4) / 2 x 1 s; + 4 x 2 s; + (4 + 0) / 2 x 0.5 s
    assert [sampled.read_j() for _ in range(4)] == pytest.approx([0, 3, 11, 12])


def test_sample_that_fails_is_nan_and_the_next_spans_the_gap() -> None:
    values = iter([2.0, None, 2.0])

    def power_w() -> float:
        if (value := next(values)) is None:
            raise OSError("the bus is busy")
        return value

    sampled = PowerIntegrator(power_w, clock=readings(0, 3))
    sampled.read_j()
    assert math.isnan(sampled.read_j())
    assert sampled.read_j() == pytest.approx(6)


def test_power_between_two_readings_is_sampled_on_a_thread_that_ends() -> None:
    began_s = time.monotonic()
    # 100 W from 80 ms to 480 ms: two readings alone would see none of it.
    sampled = PowerIntegrator(lambda: 100.0 * (0.08 < time.monotonic() - began_s < 0.48), period_s=1e-3)
    with sampled.awake():
        before_j = sampled.read_j()
        time.sleep(0.8)
        drawn_j = sampled.read_j() - before_j
    # 40 J; a busy host lets the thread come late.
    assert 5 < drawn_j < 75
    assert "power" not in {thread.name for thread in threading.enumerate()}


def test_time_outside_is_not_counted() -> None:
    sampled = PowerIntegrator(lambda: 5.0, period_s=60)
    with sampled.awake():
        time.sleep(0.01)
        last_j = sampled.read_j()
    time.sleep(0.01)
    with sampled.awake():
        assert sampled.read_j() == last_j
