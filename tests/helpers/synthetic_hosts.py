"""Synthetic hosts: the files of a Raspberry Pi, a Jetson and a laptop below a folder, and passing time."""

from collections.abc import Callable
from pathlib import Path

from jmsnas.profiler.host.host_state import HostState, read_host_state

CPU = "sys/devices/system/cpu"
CLOCK = f"{CPU}/cpu%d/cpufreq/scaling_cur_freq"
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
ZONE = "sys/class/thermal/thermal_zone%d"
COUNT = f"{CPU}/cpu%d/thermal_throttle/package_throttle_count"
OVER_CURRENT = "sys/class/hwmon/hwmon3/oc3_event_cnt"


def write(root: Path, files: dict[str, object]) -> None:
    for name, value in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")


def cores(root: Path, count: int, khz: int, governor: str = "performance") -> None:
    for core in range(count):
        folder = f"{CPU}/cpu{core}/cpufreq/scaling"
        limits = {f"{folder}_min_freq": 200000, f"{folder}_max_freq": 9000000}
        write(root, {CLOCK % core: khz, f"{folder}_governor": governor, **limits})
    spend(root, [0] * count, [0] * count, 0)


def spend(root: Path, busy: list[int], idle: list[int], own: int) -> None:
    """Let so many ticks have passed on the cores, and so many in this process."""
    lines = [
        f"cpu{core} {ran} 0 0 {slept} 0 0 0 0 0 0"
        for core, (ran, slept) in enumerate(zip(busy, idle, strict=True))
    ]
    write(root, {"proc/stat": "\n".join(["cpu  0", *lines])})
    write(root, {"proc/self/stat": f"1 (python) R 0 0 0 0 0 0 0 0 0 0 {own} 0 0 0 20"})


def raspberry_pi(root: Path) -> int:
    cores(root, 4, 1800000)
    zone = ZONE % 0
    write(root, {FIRMWARE: 0, f"{zone}/type": "cpu-thermal", f"{zone}/temp": 48686})
    return 4


def jetson(root: Path) -> int:
    cores(root, 8, 2265600)
    write(root, {"sys/class/devfreq/17000000.gv11b/cur_freq": 318750000, OVER_CURRENT: 2})
    for number, (name, temp) in enumerate({"CPU-therm": 44500, "GPU-therm": 43000, "PMIC-Die": 1e5}.items()):
        zone = ZONE % number
        write(root, {f"{zone}/type": name, f"{zone}/temp": int(temp)})
        write(root, {f"{zone}/trip_point_0_type": "passive", f"{zone}/trip_point_0_temp": 86000})
    return 8


def laptop(root: Path) -> int:
    cores(root, 2, 4200000)
    write(root, {COUNT % 0: 7, COUNT % 1: 7})
    write(root, {"sys/class/hwmon/hwmon5/name": "coretemp", "sys/class/hwmon/hwmon5/temp1_input": 61000})
    return 2


BOARDS = (raspberry_pi, jetson, laptop)
Board = Callable[[Path], int]


class Host:
    """A synthetic host: 20 ticks pass per reading, core 0 works for this process, the others are idle."""

    def __init__(self, root: Path, board: Board) -> None:
        self.root, self.readings, self.cores = root, 0, board(root)
        self.others = 0

    def work(self) -> None:
        self.readings += 1
        passed = 20 * self.readings
        idle = [0, *(passed - (self.others if core == 1 else 0) for core in range(1, self.cores))]
        spend(self.root, [passed - slept for slept in idle], idle, passed)

    def read(self) -> HostState:
        return read_host_state(self.work, self.root)
