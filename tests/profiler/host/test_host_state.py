import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_hosts import (
    BOARDS,
    CLOCK,
    COUNT,
    CPU,
    FIRMWARE,
    OVER_CURRENT,
    ZONE,
    Board,
    Host,
    jetson,
    laptop,
    raspberry_pi,
    spend,
    write,
)

from jmsnas.profiler.host.host_state import (
    HostState,
    busy_wait,
    host_faults_between,
    host_warnings,
    read_host_state,
)
from jmsnas.profiler.host.sensors import CpuTicks, Throttling

BLIND = "cannot determine whether the clock was steady"


@pytest.fixture(params=BOARDS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return Host(tmp_path, request.param)


def test_still_host_gives_no_warning(host: Host) -> None:
    before, after = host.read(), host.read()
    assert before.busy_cores == after.busy_cores == ("cpu0",)
    assert before.others_busy == 0 and before.throttle is not None and before.throttle.now == ()
    assert host_warnings(before, before) == host_warnings(before, after) == ()


def test_what_each_board_tells(tmp_path: Path) -> None:
    pi, xavier, i7 = (Host(tmp_path / board.__name__, board).read() for board in BOARDS)
    assert pi.clocks_hz == {f"cpu{core}": 1_800_000_000 for core in range(4)}
    assert (pi.governor, pi.temperature_c, xavier.temperature_c) == ("performance", 48.686, 44.5)
    assert xavier.throttle is not None and xavier.throttle.counts == {"oc3_event_cnt of hwmon3": 2}
    assert i7.throttle is not None and set(i7.throttle.counts.values()) == {7} and i7.temperature_c == 61.0


def test_virtual_machine_tells_nothing_and_is_not_trusted(tmp_path: Path) -> None:
    spend(tmp_path, [0, 0], [0, 0], 0)
    state = read_host_state(lambda: spend(tmp_path, [20, 0], [0, 20], 20), tmp_path)
    assert state == HostState(
        busy_cores=("cpu0",),
        others_busy=0.0,
        ticks=CpuTicks({"cpu0": 20, "cpu1": 0}, {"cpu0": 20, "cpu1": 20}, 20),
    )
    (line,) = host_warnings(state, state)
    assert line == f"{BLIND}: no reading of clocks and throttling. Measure twice and compare"
    assert read_host_state(lambda: None, tmp_path / "nothing") == HostState()


def test_governor_that_moves_the_clock(host: Host) -> None:
    write(host.root, {f"{CPU}/cpu1/cpufreq/scaling_governor": "ondemand"})
    state = host.read()
    (line,) = host_warnings(state, state)
    assert line.startswith(
        "the governor is ondemand, performance, which moves the clock: expected performance."
    )
    assert "Run: sudo cpupower frequency-set -g performance" in line


@pytest.mark.parametrize(("share", "expected"), [(0.94, True), (0.96, False), (1.04, False), (1.06, True)])
def test_clock_of_a_busy_core_moves(host: Host, share: float, expected: bool) -> None:
    before = host.read()
    assert before.clocks_hz is not None
    write(host.root, {CLOCK % 0: int(before.clocks_hz["cpu0"] / 1000 * share)})
    lines = host_warnings(before, host.read())
    assert bool(lines) == expected
    assert all("the clock of cpu0, busy both times, went from" in line for line in lines)


def test_idle_core_that_clocks_down_is_not_throttling(host: Host) -> None:
    before = host.read()
    write(host.root, {CLOCK % core: 200000 for core in range(1, host.cores)})
    assert host_warnings(before, host.read()) == ()


def test_reading_of_an_idle_host_certifies_no_clock(tmp_path: Path) -> None:
    raspberry_pi(tmp_path)
    state = read_host_state(lambda: spend(tmp_path, [0] * 4, [20] * 4, 0), tmp_path)
    assert host_warnings(state, state) == (f"{BLIND}: no reading of clocks. Measure twice and compare",)


@pytest.mark.parametrize(
    ("board", "sign", "expected"),
    [
        (raspberry_pi, {FIRMWARE: "50005"}, "under-voltage, throttled"),
        (raspberry_pi, {FIRMWARE: "20000"}, "clock capped"),  # came and went between the readings
        (jetson, {OVER_CURRENT: 5}, "oc3_event_cnt rose by 3"),
        (jetson, {f"{ZONE % 0}/temp": 86000}, "CPU-therm at 86 C, its limit 86 C"),
        (laptop, {COUNT % 0: 9, COUNT % 1: 9}, "package_throttle_count rose by 2"),
    ],
)
def test_throttled_while_measuring(
    tmp_path: Path, board: Board, sign: dict[str, object], expected: str
) -> None:
    host = Host(tmp_path, board)
    before = host.read()
    write(tmp_path, sign)
    line = host_warnings(before, host.read())[0]
    assert line == (
        f"the host throttles ({expected}): cool it or give it a stronger supply, then measure again"
    )


def test_throttling_long_ago_hides_a_later_one_on_a_pi_alone(tmp_path: Path) -> None:
    host = Host(tmp_path, raspberry_pi)
    write(tmp_path, {FIRMWARE: "50000"})
    state = host.read()
    (line,) = host_warnings(state, state)
    assert line.startswith(f"{BLIND}: under-voltage and throttled since the start hides any later one")
    other = Host(tmp_path / "laptop", laptop)
    assert host_warnings(other.read(), other.read()) == ()  # its counters began at 7


def test_heat(host: Host) -> None:
    state = host.read()
    assert host_warnings(replace(state, temperature_c=80.0), replace(state, temperature_c=79.0)) == ()
    (line,) = host_warnings(replace(state, temperature_c=80.6), state)
    assert line == "the host is at 81 C: expected at most 80 C. Cool it, then measure again"


def test_other_processes_between_the_readings(host: Host) -> None:
    before = host.read()
    host.others = 15  # of the 40 ticks that two more readings take, 15 of one core are another's
    host.work()
    after = host.read()
    (line,) = host_warnings(before, after)
    assert line.startswith(f"other processes keep 0.4 of {host.cores} cores busy: expected at most 0.25. End")


def test_other_processes_at_one_reading(host: Host) -> None:
    host.others = 10
    state = host.read()
    assert state.others_busy == pytest.approx(0.5)
    assert "other processes keep 0.5 of" in host_warnings(state, state)[0]


@pytest.mark.parametrize(
    ("board", "victim", "unknown"),
    [
        (raspberry_pi, FIRMWARE, "throttling"),
        (raspberry_pi, ZONE % 0, "temperature"),
        (raspberry_pi, f"{CPU}/cpu0/cpufreq", "clocks"),
        (jetson, OVER_CURRENT, "throttling"),
        (jetson, f"{ZONE % 1}/temp", "throttling and temperature"),
        (laptop, COUNT % 1, "throttling"),
        (laptop, "proc/stat", "clocks"),
        (laptop, "sys", "clocks and throttling and temperature"),
    ],
)
def test_dead_watcher_certifies_nothing(tmp_path: Path, board: Board, victim: str, unknown: str) -> None:
    host = Host(tmp_path, board)
    before = host.read()

    def die() -> None:
        host.work()
        path = tmp_path / victim
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    after = read_host_state(die, tmp_path)
    assert f"{BLIND}: no reading of {unknown}. Measure twice and compare" in host_warnings(before, after)


@pytest.mark.parametrize(
    ("board", "file"), [(raspberry_pi, FIRMWARE), (jetson, OVER_CURRENT), (laptop, CLOCK % 1)]
)
@pytest.mark.parametrize("text", ["", "<unknown>"])
def test_file_that_fails_is_none_not_good(tmp_path: Path, board: Board, file: str, text: str) -> None:
    host = Host(tmp_path, board)
    write(tmp_path, {file: text})
    state = host.read()
    assert (state.clocks_hz if file == CLOCK % 1 else state.throttle) is None
    assert any(line.startswith(BLIND) for line in host_warnings(state, state))


def test_counter_that_fell_was_set_back(host: Host) -> None:
    before = host.read()
    counts = {"a of b": 3}
    old, new = (
        Throttling(counts=counts, sources=("a of b",)),
        Throttling(counts={"a of b": 1}, sources=("a of b",)),
    )
    lines = host_warnings(replace(before, throttle=old), replace(before, throttle=new))
    assert lines == (f"{BLIND}: no reading of throttling. Measure twice and compare",)


@pytest.mark.parametrize(
    ("board", "sign", "fault"),
    [
        (raspberry_pi, {FIRMWARE: "50005"}, "the host throttles (under-voltage, throttled)"),
        (jetson, {OVER_CURRENT: 5}, "the host throttles (oc3_event_cnt rose by 3)"),
        (laptop, {"sys/class/hwmon/hwmon5/temp1_input": 91000}, "the host is at 91 C"),
        (laptop, {CLOCK % 0: 3000000}, "the clock of cpu0, busy both times, went from 4.20 to 3.00 GHz"),
    ],
)
def test_fault_that_rows_must_say(tmp_path: Path, board: Board, sign: dict[str, object], fault: str) -> None:
    host = Host(tmp_path, board)
    before = host.read()
    assert host_faults_between(before, host.read()) == ()
    write(tmp_path, sign)
    assert host_faults_between(before, host.read()) == (fault,)


def test_governor_and_other_processes_are_no_fault(host: Host) -> None:
    before = host.read()
    write(host.root, {f"{CPU}/cpu1/cpufreq/scaling_governor": "ondemand"})
    host.others = 15
    after = host.read()
    assert len(host_warnings(before, after)) == 2 and host_faults_between(before, after) == ()


@pytest.mark.parametrize(
    ("board", "victim", "lost"),
    [
        (raspberry_pi, FIRMWARE, "throttle"),
        (raspberry_pi, ZONE % 0, "temperature"),
        (jetson, OVER_CURRENT, "throttle"),
        (laptop, COUNT % 1, "throttle"),
        (laptop, "sys", "clocks, temperature, throttle"),
    ],
)
def test_watcher_that_died_is_a_fault(tmp_path: Path, board: Board, victim: str, lost: str) -> None:
    host = Host(tmp_path, board)
    before = host.read()
    path = tmp_path / victim
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert host_faults_between(before, host.read()) == (f"the host no longer reports its {lost}",)


def test_host_that_never_told_is_no_fault() -> None:
    assert host_faults_between(HostState(), HostState()) == ()


def test_this_host() -> None:
    cores = os.sched_getaffinity(0)
    state = read_host_state(busy_wait)
    assert os.sched_getaffinity(0) == cores
    assert state.ticks is not None and state.busy_cores is not None and state.others_busy is not None
    assert f"cpu{min(cores)}" in state.busy_cores and 0 <= state.others_busy <= len(state.ticks.total)
    assert all(line and "\n" not in line for line in host_warnings(state, state))


def test_affinity_is_put_back_after_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    def stop() -> float:
        raise KeyboardInterrupt

    cores = os.sched_getaffinity(0)
    monkeypatch.setattr(time, "perf_counter", stop)
    with pytest.raises(KeyboardInterrupt):
        busy_wait()
    assert os.sched_getaffinity(0) == cores
