import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from jmsnas.errors import DeviceError, JmsnasError, StorageError
from jmsnas.profiler.host_state import HostState
from jmsnas.profiler.journal import append_record, journal_path, only_writer, read_journal
from jmsnas.profiler.parquet import read_table, record_row
from jmsnas.profiler.simulated import simulated_table
from jmsnas.profiler.sweep import profile, profile_device
from jmsnas.profiler.table import Key, LatencyTable, Row
from jmsnas.space import IDENTITY, Block, Candidate, Layer
from jmsnas.workspace import Workspace

BLOCKS = tuple(
    Block(candidate, layer)
    for layer in (Layer(8, 8, 1, 4, 4), Layer(8, 8, 1, 2, 2))
    for candidate in (Candidate(3, 3, True), Candidate(5, 3), IDENTITY)
)
EAGER = Key("torch")
QUICK = {"budget_s": 0.05}


def measured(folder: Path, blocks: tuple[Block, ...] = BLOCKS) -> LatencyTable:
    return profile("local", blocks, [EAGER], folder / "local.parquet", cache=folder / "cache", **QUICK)


def test_both_run_times_into_one_table(tmp_path: Path) -> None:
    told: list[tuple[float, float, str]] = []
    table = profile(
        "local",
        BLOCKS[:2],
        (EAGER, Key()),
        tmp_path / "local.parquet",
        cache=tmp_path / "cache",
        budget_s=0.2,
        progress=lambda *how_far: told.append(how_far),
    )
    assert table.keys == (Key(), EAGER) and len(table.rows) == 4
    assert read_table(tmp_path / "local.parquet") == table
    assert not journal_path(tmp_path / "local.parquet").exists()
    for row in table.rows:
        assert row.kind == "measured" and row.rounds == len(row.samples) >= 6
        assert row.converged == (row.half_width <= 0.01)
        assert row.min_s <= row.median_s <= row.p90_s
        assert row.environment in table.environments and row.source.startswith("jmsnas ")
    assert told[-1][:2] == (4, 4)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_second_call_measures_only_what_is_missing(tmp_path: Path) -> None:
    first = measured(tmp_path, BLOCKS[:2])
    second = measured(tmp_path)
    samples = {row.block: row.samples for row in second.rows}
    assert len(samples) == len(BLOCKS)
    assert all(samples[row.block] == row.samples for row in first.rows)
    when = (tmp_path / "local.parquet").stat().st_mtime_ns
    assert measured(tmp_path) == second
    assert (tmp_path / "local.parquet").stat().st_mtime_ns == when, "written although nothing was new"


def test_failure_keeps_the_rows_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jmsnas.profiler.sweep as sweep

    kept = 0

    def full(path: Path, record: dict[str, object]) -> None:
        nonlocal kept
        if "row" in record and kept == 2:
            raise StorageError("cannot write: the disk is full")
        kept += "row" in record
        append_record(path, record)

    monkeypatch.setattr(sweep, "append_record", full)
    with pytest.raises(StorageError, match="the disk is full"):
        measured(tmp_path)
    assert len(read_table(tmp_path / "local.parquet").rows) == 2


def test_second_profiler_is_refused(tmp_path: Path) -> None:
    with (
        only_writer(tmp_path / "local.parquet"),
        pytest.raises(JmsnasError, match=rf"another profiler \(process {os.getpid()}\)"),
    ):
        measured(tmp_path)


def test_device_that_is_not_at_hand_is_simulated(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    found = profile_device("pi4", BLOCKS, [EAGER], place)
    assert found.outcome == "simulated" and found.path == place.table("pi4")
    assert {row.kind for row in found.table.rows} == {"simulated"}
    assert read_table(found.path) == found.table
    more = profile_device("pi4", BLOCKS, [EAGER, Key()], place)
    assert len(more.table.rows) == 2 * len(BLOCKS)


def test_measured_only_and_unknown_devices(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    with pytest.raises(DeviceError, match="this host is not pi4, and --measured-only refuses to simulate it"):
        profile_device("pi4", BLOCKS, [EAGER], place, measured_only=True)
    with pytest.raises(DeviceError, match="unknown device 'toaster': expected one of local, .*pi4"):
        profile_device("toaster", BLOCKS, [EAGER], place)
    assert not list(tmp_path.iterdir())


def test_measured_table_is_never_replaced_by_a_simulated_one(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    table = profile("pi4", BLOCKS[:1], [EAGER], place.table("pi4"), cache=tmp_path, **QUICK)
    with pytest.warns(UserWarning, match="was measured and is kept"):
        found = profile_device("pi4", BLOCKS, [EAGER], place)
    assert found.outcome == "kept" and found.table == table == read_table(place.table("pi4"))


def test_measurement_takes_the_place_of_a_simulation(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    profile_device("pi4", BLOCKS, [EAGER, Key()], place)
    table = profile("pi4", BLOCKS[:1], [EAGER], place.table("pi4"), cache=tmp_path, **QUICK)
    assert [row.kind for row in table.rows] == ["measured"] and "simulated" not in table.environments
    assert simulated_table("pi4", BLOCKS, [EAGER]).simulated


def test_local_is_measured(tmp_path: Path) -> None:
    place, lines = Workspace(tmp_path), list[str]()
    found = profile_device(
        "local", BLOCKS[:1], [EAGER], place, measured_only=True, tell=lines.append, **QUICK
    )
    assert found.outcome == "measured" and not found.table.simulated


def test_what_the_host_does_is_told_before_and_after_measuring(tmp_path: Path) -> None:
    lines, readings = list[str](), 0

    def heating() -> HostState:
        nonlocal readings
        readings += 1
        return HostState(governor="ondemand", temperature_c=40.0 + 25.0 * readings)

    def once() -> None:
        place = Workspace(tmp_path)
        profile_device("local", BLOCKS[:2], [EAGER], place, tell=lines.append, watch=heating, **QUICK)

    once()
    assert readings == 2 and [line.partition(":")[0] for line in lines] == [
        "the governor is ondemand, which moves the clock",
        "cannot tell whether the clock was steady",
        "the host is at 90 C",
    ]
    once()
    assert readings == 2 and len(lines) == 3, "there was nothing to measure, so nothing to warn of"


# Loads torch once, then forks a profiler for every line it is sent and kills it that many seconds later.
_KILLER = """
import os, signal, sys, time
from pathlib import Path
from jmsnas.profiler.sweep import profile
from jmsnas.profiler.table import Key
from jmsnas.space_file import load_space
folder, blocks = Path(sys.argv[1]), load_space("digits").blocks()
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        # A few blocks at a time, so that there is a fold to be killed in every fraction of a second.
        for known in range(4, len(blocks), 4):
            profile("local", blocks[:known], [Key("torch")], folder / "local.parquet",
                    cache=folder, budget_s=0.05)
        os._exit(0)
    time.sleep(float(line))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", flush=True)
"""


def test_kill_at_random_moments_loses_no_finished_row(tmp_path: Path) -> None:
    path, generator, before = tmp_path / "local.parquet", random.Random(3), dict[Block, Row]()
    script = [sys.executable, "-c", _KILLER, str(tmp_path)]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killer:
        assert killer.stdin is not None and killer.stdout is not None
        for _ in range(6):
            print(generator.uniform(0, 1), file=killer.stdin, flush=True)
            assert killer.stdout.readline() == "killed\n"
            rows = list(read_table(path).rows) if path.exists() else []
            journal = read_journal(journal_path(path))
            assert not journal.broken_line
            rows += [record_row(record["row"]) for record in journal.records if "row" in record]
            now = {row.block: row for row in rows}
            assert all(now[block].samples == row.samples for block, row in before.items())
            before = now
        killer.stdin.close()
    assert before, "no row was finished: the test showed nothing"
    table = profile("local", BLOCKS[:1], [EAGER], path, cache=tmp_path, **QUICK)
    samples = {row.block: row.samples for row in table.rows}
    assert all(samples[block] == row.samples for block, row in before.items())
