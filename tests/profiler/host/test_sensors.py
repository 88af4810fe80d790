from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.profiler.host.sensors import (
    CpuTicks,
    busy_cores,
    cores_used_by_others,
    read_clocks_hz,
    read_cpu_ticks,
    read_governor,
    read_temperature_c,
    read_throttling,
)

CPU = "sys/devices/system/cpu"
THERMAL = "sys/class/thermal"


def tree(root: Path, files: dict[str, object]) -> Path:
    for name, value in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")
    return root


def test_nothing_there_is_none(tmp_path: Path) -> None:
    readings = (read_clocks_hz, read_governor, read_temperature_c, read_throttling)
    assert [read(tmp_path) for read in readings] == [None] * 4
    with pytest.raises(FileNotFoundError):
        read_cpu_ticks(tmp_path)


def test_ticks_by_hand(tmp_path: Path) -> None:
    stat = (
        "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 10 1 5 100 20 2 3 4 7 0\ncpu12 1 0 0 9 0 0 0 0 0 0\nintr 5 0\nctxt 7"
    )
    own = "17 (a name) of (two)) S 1 2 3 4 5 6 7 8 9 10 30 8 2 1 20 0"
    found = read_cpu_ticks(tree(tmp_path, {"proc/stat": stat, "proc/self/stat": own}))
    # cpu0: 10 + 1 + 5 + 2 + 3 + 4 (stolen) = 25 busy, and 100 idle + 20 waiting for a disk; the 7 of guests
    # are in the 10 already. Own: 30 + 8, and 2 + 1 of children.
    assert found == CpuTicks({"cpu0": 25, "cpu12": 1}, {"cpu0": 145, "cpu12": 10}, 41)


def test_others_by_hand() -> None:
    before = CpuTicks({"cpu0": 0, "cpu1": 50}, {"cpu0": 100, "cpu1": 100}, 10)
    after = CpuTicks({"cpu0": 20, "cpu1": 65}, {"cpu0": 120, "cpu1": 120}, 30)
    # 20 + 15 of 40 ticks were busy, 20 of them own: 15 / 40 of two cores.
    assert cores_used_by_others(before, after) == pytest.approx(0.75)
    assert busy_cores(before, after) == ("cpu0", "cpu1")
    assert cores_used_by_others(before, before) is None and cores_used_by_others(None, after) is None
    assert busy_cores(before, before) == ()


def test_core_that_idles_is_not_busy_and_one_that_went_is_left_out() -> None:
    before = CpuTicks({"cpu0": 0, "cpu1": 0, "cpu2": 0}, {"cpu0": 0, "cpu1": 0, "cpu2": 0}, 0)
    after = CpuTicks({"cpu0": 11, "cpu1": 10}, {"cpu0": 20, "cpu1": 20}, 11)
    assert busy_cores(before, after) == ("cpu0",)
    assert cores_used_by_others(before, after) == pytest.approx(0.5)


count = st.integers(0, 1000)


@given(st.lists(st.tuples(count, count), min_size=1, max_size=8), count)
def test_others_take_no_less_than_nothing_and_no_more_than_all(
    cores: list[tuple[int, int]], own: int
) -> None:
    names = [f"cpu{number}" for number in range(len(cores))]
    none = dict.fromkeys(names, 0)
    busy = dict(zip(names, (busy for busy, _ in cores), strict=True))
    total = dict(zip(names, (busy + idle for busy, idle in cores), strict=True))
    found = cores_used_by_others(CpuTicks(none, none, 0), CpuTicks(busy, total, own))
    assert (found is None) == (sum(total.values()) == 0)
    assert found is None or 0 <= found <= len(cores)


def test_clocks_and_governor(tmp_path: Path) -> None:
    core = f"{CPU}/cpu%d/cpufreq/scaling_%s"
    root = tree(tmp_path, {core % (0, "cur_freq"): 1500000, core % (0, "governor"): "ondemand"})
    tree(root, {core % (1, "cur_freq"): 600000, core % (1, "governor"): "schedutil"})
    assert read_clocks_hz(root) == {"cpu0": 1_500_000_000, "cpu1": 600_000_000}
    assert read_governor(root) == "ondemand, schedutil"


def test_one_clock_to_choose_from_is_fixed(tmp_path: Path) -> None:
    core = f"{CPU}/cpu%d/cpufreq/scaling_%s"
    for number in (0, 1):
        files = {"governor": "schedutil", "min_freq": 2265600, "max_freq": 2265600}
        tree(tmp_path, {core % (number, name): value for name, value in files.items()})
    assert read_governor(tmp_path) == "fixed"
    tree(tmp_path, {core % (1, "min_freq"): 115200})
    assert read_governor(tmp_path) == "schedutil"


def test_clock_in_words_is_an_error(tmp_path: Path) -> None:
    tree(tmp_path, {f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "<unknown>"})
    with pytest.raises(ValueError, match="<unknown>"):
        read_clocks_hz(tmp_path)


def test_hottest_of_what_computes(tmp_path: Path) -> None:
    zones = {"CPU-therm": 41000, "GPU-therm": 39500, "PMIC-Die": 100000, "iwlwifi_1": 90000}
    for number, (name, temp) in enumerate(zones.items()):
        tree(
            tmp_path,
            {
                f"{THERMAL}/thermal_zone{number}/type": name,
                f"{THERMAL}/thermal_zone{number}/temp": temp,
            },
        )
    assert read_temperature_c(tmp_path) == 41.0
    sensors = {"hwmon0/name": "nvme", "hwmon0/temp1_input": 95000, "hwmon1/name": "k10temp"}
    tree(tmp_path, {f"sys/class/hwmon/{name}": value for name, value in sensors.items()})
    assert read_temperature_c(tmp_path) == 41.0
    tree(tmp_path, {"sys/class/hwmon/hwmon1/temp1_input": 62125})
    assert read_temperature_c(tmp_path) == 62.125


@pytest.mark.parametrize("folder", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])
@pytest.mark.parametrize(
    ("bits", "now", "since_start"),
    [
        ("0", (), ()),
        # 0x50005: bits 0 and 2 now, 16 and 18 since the start.
        ("50005", ("under-voltage", "throttled"), ("under-voltage", "throttled")),
        ("0x80002", ("clock capped",), ("clock capped", "soft temperature limit")),
        ("e0000", (), ("clock capped", "throttled", "soft temperature limit")),
    ],
)
def test_firmware_bits_in_words(
    tmp_path: Path, folder: str, bits: str, now: tuple[str, ...], since_start: tuple[str, ...]
) -> None:
    found = read_throttling(tree(tmp_path, {f"sys/devices/platform/{folder}/get_throttled": bits}))
    assert found is not None and (found.now, found.since_start) == (now, since_start)


def test_counters_of_intel_and_jetson(tmp_path: Path) -> None:
    files = {
        f"{CPU}/cpu0/thermal_throttle/core_throttle_count": 3,
        f"{CPU}/cpu0/thermal_throttle/package_throttle_count": 7,
        f"{CPU}/cpu0/thermal_throttle/core_throttle_max_time_ms": 20,
        "sys/devices/platform/soctherm-oc-event/hwmon/hwmon3/oc3_event_cnt": 15,
    }
    tree(tmp_path, files)
    # The classes of sysfs are folders of links.
    (tmp_path / "sys/class/hwmon").mkdir(parents=True)
    device = tmp_path / "sys/devices/platform/soctherm-oc-event/hwmon/hwmon3"
    (tmp_path / "sys/class/hwmon/hwmon3").symlink_to(device)
    found = read_throttling(tmp_path)
    assert (
        found is not None
        and found.now == ()
        and found.counts
        == {
            "core_throttle_count of cpu0": 3,
            "package_throttle_count of cpu0": 7,
            "oc3_event_cnt of hwmon3": 15,
        }
    )


def test_trip_points_and_brakes(tmp_path: Path) -> None:
    zone, brake = f"{THERMAL}/thermal_zone0", f"{THERMAL}/cooling_device%d"
    files = {"type": "cpu-thermal", "temp": 94000}
    files |= {"trip_point_0_type": "active", "trip_point_0_temp": 60000}  # a fan does not slow a clock
    files |= {"trip_point_1_type": "passive", "trip_point_1_temp": 95000}
    files |= {"trip_point_2_type": "critical", "trip_point_2_temp": 0}  # not set
    tree(tmp_path, {f"{zone}/{name}": value for name, value in files.items()})
    tree(tmp_path, {f"{brake % 0}/type": "pwm-fan", f"{brake % 0}/cur_state": 3})
    tree(tmp_path, {f"{brake % 1}/type": "cpufreq-cpu0", f"{brake % 1}/cur_state": 0})
    found = read_throttling(tmp_path)
    assert found is not None and found.now == ()
    tree(tmp_path, {f"{zone}/temp": 95000, f"{brake % 1}/cur_state": 2})
    found = read_throttling(tmp_path)
    assert found is not None
    assert found.now == ("cpu-thermal at 95 C, its limit 95 C", "cpufreq-cpu0 cools")
