from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from profiling_jobs import BLOCKS, EAGER, SyntheticRunner, Tick, a_measurement

from jmsnas.errors import MeasurementError, StorageError
from jmsnas.profiler.host.host_monitor import HostReader
from jmsnas.profiler.host.host_state import HostState
from jmsnas.profiler.session import profiling_session
from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.session.profiling_session import JobRunner, ProfilingSession
from jmsnas.profiler.table.journal import append_record, journal_path, read_journal
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.profiler.table.parquet import read_table
from jmsnas.profiler.timing.paired_timing import TimingConfig
from jmsnas.progress import no_progress
from jmsnas.space import Block

HOST = {"cpu": "a test's"}


def measure(
    folder: Path,
    runner: JobRunner,
    blocks: tuple[Block, ...] = BLOCKS[:3],
    read_host: HostReader | None = None,
    warn: Callable[[str], object] = pytest.fail,
) -> LatencyTable:
    session = ProfilingSession(
        "local", folder / "local.parquet", HOST, folder / "cache", 7, warn, read_host, runner
    )
    return session.measure(EAGER, blocks, TimingConfig(budget_s=3.0), no_progress)


def test_job_of_a_session(tmp_path: Path) -> None:
    runner = SyntheticRunner()
    table = measure(tmp_path, runner)
    assert runner.jobs == [ProfileJob(EAGER, BLOCKS[:3], tmp_path / "cache", 7, TimingConfig(budget_s=3.0))]
    assert len(table.rows) == 3 and [*table.environments.values()] == [HOST]


def test_row_is_kept_the_moment_it_is_told(tmp_path: Path) -> None:
    kept: list[int] = []

    def runner(job: ProfileJob, on_event: EventHandler, tick: Tick) -> None:
        for index in range(len(job.subjects)):
            on_event({"row": index, **asdict(a_measurement())})
            records = read_journal(journal_path(tmp_path / "local.parquet")).records
            kept.append(sum("row" in record for record in records))

    measure(tmp_path, runner)
    assert kept == [1, 2, 3]


def test_rows_say_which_process_measured_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As after a merge that failed: two jobs in one journal are two processes.
    monkeypatch.setattr(profiling_session, "merge_journal", lambda *arguments: None)
    for _ in range(2):
        measure(tmp_path, SyntheticRunner())
    records = read_journal(journal_path(tmp_path / "local.parquet")).records
    processes = [record["process"] for record in records if "row" in record]
    assert (
        len(processes) == 6 and len({*processes[:3]}) == len({*processes[3:]}) == 1 and len({*processes}) == 2
    )


def test_block_that_fails_is_told_and_left_out(tmp_path: Path) -> None:
    def runner(job: ProfileJob, on_event: EventHandler, tick: Tick) -> None:
        on_event({"row": 0, **asdict(a_measurement())})
        on_event({"failed": 1, "why": "its process was ended by SIGSEGV"})
        on_event({"row": 2, **asdict(a_measurement())})

    reported: list[str] = []
    table = measure(tmp_path, runner, warn=reported.append)
    assert {row.block for row in table.rows} == {BLOCKS[0], BLOCKS[2]}
    assert reported == [
        f"{BLOCKS[1]} cannot be measured in torch-t1-b1-f32: its process was ended by SIGSEGV. It is "
        "skipped; the other blocks are measured"
    ]


def test_energy_comes_after_the_row(tmp_path: Path) -> None:
    def runner(job: ProfileJob, on_event: EventHandler, tick: Tick) -> None:
        SyntheticRunner()(job, on_event, tick)
        on_event({"energy": 1, "j": 2.5e-5})

    found = {row.block: row for row in measure(tmp_path, runner).rows}
    assert [found[block].energy_j for block in BLOCKS[:3]] == [None, 2.5e-5, None]
    assert {row.process_rounds for row in found.values()} == {(21,)}


def test_last_event_of_a_block_counts(tmp_path: Path) -> None:
    def runner(job: ProfileJob, on_event: EventHandler, tick: Tick) -> None:
        for half_width in (0.009, 0.004):
            on_event({"row": 0, **asdict(a_measurement(half_width=half_width))})

    (row,) = measure(tmp_path, runner).rows
    assert row.samples == a_measurement(half_width=0.004).samples


@pytest.mark.parametrize("error", [MeasurementError("refused"), KeyboardInterrupt(), MemoryError()])
def test_end_of_a_job_keeps_the_rows_before_it(tmp_path: Path, error: BaseException) -> None:
    def runner(job: ProfileJob, on_event: EventHandler, tick: Tick) -> None:
        on_event({"row": 1, **asdict(a_measurement())})
        raise error

    with pytest.raises(type(error)):
        measure(tmp_path, runner)
    assert [row.block for row in read_table(tmp_path / "local.parquet").rows] == [BLOCKS[1]]
    assert not journal_path(tmp_path / "local.parquet").exists()


def test_the_journal_is_merged_though_ctrl_c_interrupts_its_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge, pressed = profiling_session.merge_journal, list[Path]()

    def interrupted(device: str, path: Path, warn: Callable[[str], None]) -> LatencyTable:
        if not pressed:
            pressed.append(path)
            raise KeyboardInterrupt
        return merge(device, path, warn)

    monkeypatch.setattr(profiling_session, "merge_journal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path, SyntheticRunner())
    assert len(read_table(tmp_path / "local.parquet").rows) == 3
    assert not journal_path(tmp_path / "local.parquet").exists()


def test_row_that_cannot_be_kept_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = 0

    def full(path: Path, record: dict[str, object]) -> None:
        nonlocal kept
        if "row" in record and kept == 2:
            raise StorageError("cannot write: the disk is full")
        kept += "row" in record
        append_record(path, record)

    monkeypatch.setattr(profiling_session, "append_record", full)
    with pytest.raises(StorageError, match="the disk is full"):
        measure(tmp_path, SyntheticRunner())
    assert len(read_table(tmp_path / "local.parquet").rows) == 2


def test_rows_say_what_the_host_showed_while_they_were_measured(tmp_path: Path) -> None:
    def hot(work: Callable[[], None]) -> HostState:
        return HostState(temperature_c=90.0)

    table = measure(tmp_path, SyntheticRunner(), read_host=hot, warn=lambda line: None)
    # The first row was finished before the first look at the host.
    faults = {row.block: row.host_faults for row in table.rows}
    assert faults == {BLOCKS[0]: (), BLOCKS[1]: ("the host is at 90 C",), BLOCKS[2]: ("the host is at 90 C",)}
    assert {row.block for row in table.rows if "the host is at 90 C" in row.trust_reason} == {*BLOCKS[1:3]}
