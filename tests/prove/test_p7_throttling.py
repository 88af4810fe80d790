"""P7: throttling of the host during a measurement, or a failed host monitor, is noted in the rows."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from profiling_jobs import EAGER
from prove.proof import Proof
from prove.synthetic_blocks import Confirmed, ConfirmingRunner, synthetic_blocks
from synthetic_hosts import (
    CLOCK,
    COUNT,
    FIRMWARE,
    OVER_CURRENT,
    ZONE,
    Board,
    Host,
    jetson,
    laptop,
    raspberry_pi,
    write,
)

from jmsnas.profiler.host import host_monitor as host_monitor
from jmsnas.profiler.host.environment import describe_host
from jmsnas.profiler.host.host_monitor import HostReader
from jmsnas.profiler.host.host_state import HostState
from jmsnas.profiler.profile import ProfileOptions, update_table
from jmsnas.profiler.session.profiling_session import ProfilingSession
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.profiler.table.merge_journal import merge_journal
from jmsnas.profiler.timing.paired_timing import TimingConfig

BLOCKS, CLEAN_LOOKS = 8, 4
SENSOR = "sys/class/hwmon/hwmon5/temp1_input"
# The change to a board's files below /proc and /sys (None: the file is removed), the trust, and the reason.
CASES: dict[str, tuple[Board, dict[str, object], str, str]] = {
    "clock falls": (raspberry_pi, {CLOCK % 0: 1500000}, "yellow", "went from 1.80 to 1.50 GHz"),
    "bit is set": (raspberry_pi, {FIRMWARE: "4"}, "red", "the host throttles (throttled)"),
    "bit was set": (raspberry_pi, {FIRMWARE: "10000"}, "red", "the host throttles (under-voltage)"),
    "counter rises": (laptop, {COUNT % 0: 8}, "red", "package_throttle_count rose by 1"),
    "current is too high": (jetson, {OVER_CURRENT: 3}, "red", "oc3_event_cnt rose by 1"),
    "limit is reached": (jetson, {f"{ZONE % 0}/temp": 87000}, "red", "CPU-therm at 87 C, its limit 86 C"),
    "heat": (laptop, {SENSOR: 91000}, "yellow", "91 C"),
    "clocks end": (raspberry_pi, dict.fromkeys(CLOCK % core for core in range(4)), "yellow", "its clocks"),
    "temperature ends": (raspberry_pi, {f"{ZONE % 0}/temp": None}, "yellow", "its temperature"),
    "throttling ends": (raspberry_pi, {FIRMWARE: None}, "yellow", "its throttle"),
    "a source ends": (laptop, {COUNT % 1: None}, "yellow", "its throttle"),
}


def dead(work: Callable[[], None]) -> HostState:
    raise RuntimeError("the sensor is gone")


def host(root: Path, board: Board) -> HostReader:
    """A fake host, on which the work between two readings takes no time."""
    made_up = Host(root, board)
    return lambda work: made_up.read()


def changed(root: Path, files: dict[str, object]) -> None:
    write(root, {name: value for name, value in files.items() if value is not None})
    for name in (name for name, value in files.items() if value is None):
        (root / name).unlink()


def measured(folder: Path, runner: ConfirmingRunner, read_host: HostReader) -> LatencyTable:
    """Measure in one job, without repetition in a second process."""
    path, warnings = folder / "local.parquet", list[str]()
    session = ProfilingSession("local", path, describe_host(), folder, 0, warnings.append, read_host, runner)
    return session.measure(EAGER, synthetic_blocks(BLOCKS), TimingConfig(), lambda *how_far: None)


def from_reading(number: int, sound: HostReader, bad: Callable[[], object]) -> HostReader:
    """A host without faults until reading `number`, before which `bad` is called."""
    readings = 0

    def read(work: Callable[[], None]) -> HostState:
        nonlocal readings
        readings += 1
        if readings == number:
            bad()
        return sound(work)

    return read


def spoiled(root: Path, case: str, number: int) -> HostReader:
    board, files, _, _ = CASES[case]
    return from_reading(number, host(root, board), lambda: changed(root, files))


@pytest.mark.parametrize("case", CASES)
def test_rows_say_it_and_are_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof, case: str
) -> None:
    monkeypatch.setattr(host_monitor, "_PERIOD_S", 0.0)
    board, _, mark, words = CASES[case]
    check(tmp_path, spoiled(tmp_path / "host", case, 2 + CLEAN_LOOKS), board, mark, words)
    proof.show(f"a fault: rows {mark}, repeated by the next profile")


def test_watcher_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof) -> None:
    monkeypatch.setattr(host_monitor, "_PERIOD_S", 0.0)
    sound = host(tmp_path / "host", laptop)
    readings = iter([sound] * (1 + CLEAN_LOOKS))
    check(tmp_path, lambda work: next(readings, dead)(work), laptop, "yellow", "could not be monitored")
    proof.show("a fault: rows yellow, repeated by the next profile")


def check(folder: Path, read_host: HostReader, board: Board, mark: str, words: str) -> None:
    # One reading before, then one after each row: the first rows are reported before the fault.
    table = measured(folder, ConfirmingRunner(Confirmed()), read_host)
    flagged = table.rows[CLEAN_LOOKS + 1 :]
    assert len(flagged) == BLOCKS - CLEAN_LOOKS - 1
    for row in flagged:
        assert row.trust == mark and words in row.trust_reason and words in " ".join(row.host_faults)
    again = clean_profile(folder, board)
    assert not any(row.host_faults for row in again.rows)
    assert {row.trust for row in again.rows} == {"green"}
    samples = {row.block: row.samples for row in again.rows}
    for row in table.rows:
        repeated = set(row.samples).isdisjoint(samples[row.block])
        assert repeated == bool(row.host_faults), "repeated, not diluted; and what was clean is kept"


def clean_profile(folder: Path, board: Board) -> LatencyTable:
    path, runner = folder / "local.parquet", ConfirmingRunner(Confirmed())
    read_host, blocks = host(folder / "sound", board), synthetic_blocks(BLOCKS)
    options = ProfileOptions(warn=print, read_host=read_host, run_job=runner)
    return update_table("local", blocks, [EAGER], path, folder, options)


def test_watcher_dead_from_the_start_certifies_nothing(tmp_path: Path, proof: Proof) -> None:
    path, runner = tmp_path / "local.parquet", ConfirmingRunner(Confirmed())
    with suppress(RuntimeError):
        options = ProfileOptions(read_host=dead, run_job=runner)
        update_table("local", synthetic_blocks(BLOCKS), [EAGER], path, tmp_path, options)
    table = merge_journal("local", path, print)
    assert not any(row.trust == "green" for row in table.rows)
    proof.show("monitor fails from the start: no row is green")


def test_what_the_last_reading_shows(tmp_path: Path) -> None:
    # All rows fall between the first reading and the next one, a second later.
    table = measured(tmp_path, ConfirmingRunner(Confirmed()), spoiled(tmp_path / "host", "counter rises", 3))
    assert any(row.host_faults for row in table.rows)
