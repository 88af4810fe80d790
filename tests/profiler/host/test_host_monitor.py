import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from synthetic_hosts import Host, laptop, raspberry_pi

from jmsnas.profiler.host import host_monitor
from jmsnas.profiler.host.host_monitor import HostMonitor, HostReader
from jmsnas.profiler.host.host_state import HostState, busy_wait, read_host_state
from jmsnas.profiler.host.sensors import Throttling

COOL = HostState(temperature_c=50.0)
HOT = HostState(temperature_c=91.0)
THROTTLED = HostState(temperature_c=50.0, throttle=Throttling(now=("under-voltage",), sources=("a",)))


def states(*values: HostState | Exception) -> HostReader:
    """A host that gives one state after the other, or fails."""
    left: Iterator[HostState | Exception] = iter(values)

    def read(work: Callable[[], None]) -> HostState:
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    return read


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that `look` sees: one entry, to be set."""
    now = [100.0]
    monkeypatch.setattr(host_monitor, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep))
    return now


def looked(watch: HostMonitor, seconds: list[float], times: int) -> tuple[str, ...]:
    for _ in range(times):
        seconds[0] += 1.0
        watch.look()
    return watch.faults


def quiet(line: str) -> None:
    pass


def test_lines_before_and_after_are_told_once_each(tmp_path: Path) -> None:
    still, lines, warned = Host(tmp_path, raspberry_pi).read(), list[str](), set[str]()
    still = replace(still, governor="ondemand")
    hot, hotter = replace(still, temperature_c=85.0), replace(still, temperature_c=86.0)
    watch = HostMonitor(states(still, hot), lines.append, warned)
    assert [line.partition(" is ")[0] for line in lines] == ["the governor"]
    watch.end()
    assert len(lines) == 2 and lines[1].startswith("the host is at 85 C")
    # The next job of the same call: another number is not a new warning.
    HostMonitor(states(hotter, still), lines.append, warned).end()
    assert len(lines) == 2
    HostMonitor(states(hotter, still), lines.append, set()).end()
    assert len(lines) == 4, "another call warns again"


def test_without_a_reader_nothing_is_told_or_found(seconds: list[float]) -> None:
    watch = HostMonitor(None, pytest.fail, set())
    assert looked(watch, seconds, 3) == ()
    watch.end()


def test_reader_is_given_work_before_and_after_and_rest_between(seconds: list[float]) -> None:
    works: list[Callable[[], None]] = []

    def read(work: Callable[[], None]) -> HostState:
        works.append(work)
        return COOL

    watch = HostMonitor(read, quiet, set())
    looked(watch, seconds, 1)
    watch.end()
    assert works[0] is works[2] is busy_wait and works[1] is not busy_wait
    began_s, busy_s = time.perf_counter(), time.process_time()
    works[1]()
    # The cores that work meanwhile are those that measure.
    assert time.perf_counter() - began_s > 0.1 > time.process_time() - busy_s


def test_once_a_second_at_most(seconds: list[float]) -> None:
    readings = 0

    def read(work: Callable[[], None]) -> HostState:
        nonlocal readings
        readings += 1
        return COOL

    watch = HostMonitor(read, quiet, set())
    readings = 0
    for _ in range(50):
        watch.look()
        seconds[0] += 0.1
    assert readings == 5


@pytest.mark.parametrize(
    ("later", "fault"),
    [
        (HOT, "the host is at 91 C"),
        (THROTTLED, "the host throttles (under-voltage)"),
        (HostState(), "the host no longer reports its temperature"),
        (OSError("gone"), "the host could not be monitored (OSError)"),
        (ZeroDivisionError(), "the host could not be monitored (ZeroDivisionError)"),
    ],
)
def test_what_is_wrong_meanwhile_is_a_fault_from_then_on(
    seconds: list[float], later: HostState | Exception, fault: str
) -> None:
    watch = HostMonitor(states(COOL, COOL, later, COOL), quiet, set())
    assert looked(watch, seconds, 1) == ()
    assert looked(watch, seconds, 1) == (fault,)
    assert fault in looked(watch, seconds, 1), "it does not pass: the rows after it were measured later"


def test_faults_are_kept_once_each_in_order(seconds: list[float]) -> None:
    watch = HostMonitor(states(COOL, COOL, HOT, OSError(), HOT, OSError()), quiet, set())
    assert looked(watch, seconds, 5) == ("the host is at 91 C", "the host could not be monitored (OSError)")


def test_clock_is_compared_with_the_first_look(tmp_path: Path, seconds: list[float]) -> None:
    # The reading before keeps one core busy that later ones need not: its clock is no measure of theirs.
    host = Host(tmp_path, laptop)
    base = host.read()
    other = replace(base, clocks_hz={"cpu0": 2_100_000_000, "cpu1": 2_100_000_000})
    moved = replace(base, clocks_hz={"cpu0": 1_500_000_000, "cpu1": 2_100_000_000})
    watch = HostMonitor(states(base, other, other, moved), quiet, set())
    assert looked(watch, seconds, 2) == ()
    (fault,) = looked(watch, seconds, 1)
    assert fault.startswith("the clock of cpu0, busy both times, went from 2.10 to 1.50 GHz")


def test_this_host(seconds: list[float]) -> None:
    watch = HostMonitor(read_host_state, quiet, set())
    looked(watch, seconds, 1)
    assert watch.baseline is not None and watch.baseline.ticks is not None
