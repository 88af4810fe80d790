import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from profiling_jobs import BLOCKS, EAGER, PART

from jmsnas.errors import MeasurementError, StorageError
from jmsnas.profiler.host.energy_meters import EnergyMeter
from jmsnas.profiler.session import run_job as run_job_file
from jmsnas.profiler.session.job import ProfileJob, job_from_document
from jmsnas.profiler.session.run_job import run_job
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, RuntimeKey
from jmsnas.profiler.timing.paired_timing import TimedLoop, TimingConfig
from jmsnas.space import HEAD, Block, BlockOrPart, Layer

QUICK = TimingConfig(budget_s=0.05, warm_up_s=0.001)
BAD = BLOCKS[1]


def a_job(
    folder: Path, *subjects: BlockOrPart, key: RuntimeKey = EAGER, one_by_one: bool = False
) -> ProfileJob:
    return ProfileJob(key, subjects, folder / "cache", 3, QUICK, one_by_one, energy=False)


def events_of(job: ProfileJob, on_start: Callable[[int], None] = lambda index: None) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    run_job(job, lambda event: events.append(json.loads(json.dumps(event, allow_nan=False))), on_start)
    return events


def rows(events: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {event["row"]: event for event in events if "row" in event}


@pytest.mark.parametrize(
    "job",
    [
        ProfileJob(EAGER, (), Path("cache"), 0, TimingConfig()),
        ProfileJob(
            RuntimeKey("torch", 4, 8, "float16", "cuda", "channels_last", "torchprof"),
            (*BLOCKS, PART, Block(HEAD, Layer(32, 10, 1, 2, 2, "head", 128))),
            Path("/some/where"),
            7,
            TimingConfig(budget_s=3.5, finest=0.002, max_rounds=90),
            one_by_one=True,
            energy=False,
        ),
    ],
)
def test_job_and_its_document_say_the_same(job: ProfileJob) -> None:
    assert job_from_document(json.loads(json.dumps(job.document(), allow_nan=False))) == job


def test_every_block_and_part_is_told(tmp_path: Path) -> None:
    events = events_of(a_job(tmp_path, *BLOCKS[:3], PART))
    found = rows(events)
    assert {*found} == {0, 1, 2, 3} and not any("failed" in event for event in events)
    assert found[3]["ratio"] > found[0]["ratio"] > found[2]["ratio"], "Identity is the least work"
    for row in found.values():
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"] and len(row["samples"]) >= 6
        assert row["reference_s"] > 0 and row["drift"] >= 0 and 0 <= row["interrupted"] <= 1
    progress = [event["progress"] for event in events if "progress" in event]
    done = [done for done, _, _ in progress]
    assert done == sorted(done) and done[-1] == pytest.approx(1.0) and {of for _, of, _ in progress} == {1.0}


def test_watcher_knows_which_block_runs_and_when_none_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, ran, real_prepare = list[int](), list[tuple[int, int]](), run_job_file.prepare

    def prepare(subjects: Sequence[BlockOrPart], *more: Any) -> list[TimedLoop]:
        return [
            lambda loops, timed=timed, block=block: (
                ran.append((BLOCKS.index(block), started[-1])) if block in BLOCKS else None,
                timed(loops),
            )[1]
            for timed, block in zip(real_prepare(subjects, *more), subjects, strict=True)
        ]

    monkeypatch.setattr(run_job_file, "prepare", prepare)
    events_of(a_job(tmp_path, *BLOCKS[:3]), started.append)
    assert [*dict.fromkeys(started)] == [0, 1, 2, -1] and started[-1] == -1
    assert {*ran} == {(index, index) for index in range(3)}
    started.clear()
    events_of(a_job(tmp_path, *BLOCKS[:3], one_by_one=True), started.append)
    assert started[:4] == [0, 1, 2, -1] and started[-1] == -1


def refusing(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Make the runtime refuse one block: when it is prepared, or when it runs."""
    real_prepare = run_job_file.prepare

    def prepare(subjects: Sequence[BlockOrPart], *more: Any) -> list[TimedLoop]:
        if when == "ready" and BAD in subjects:
            raise RuntimeError("no such kernel\nfile x, line y")
        found = real_prepare(subjects, *more)
        return [refuse if subject == BAD else timed for timed, subject in zip(found, subjects, strict=True)]

    def refuse(loops: int) -> float:
        raise ValueError

    monkeypatch.setattr(run_job_file, "prepare", prepare)


@pytest.mark.parametrize(("when", "why"), [("ready", "no such kernel"), ("run", "ValueError")])
def test_block_that_is_refused_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, why: str
) -> None:
    refusing(monkeypatch, when)
    started: list[int] = []
    events = events_of(a_job(tmp_path, *BLOCKS[:3], one_by_one=when == "run"), started.append)
    assert [event for event in events if "failed" in event] == [{"failed": 1, "why": why}]
    assert {*rows(events)} == {0, 2}
    assert {*started[4:]} == {0, 2, -1}, "numbers are those of the job, not of what is left"


def test_run_time_that_cannot_run_here(tmp_path: Path) -> None:
    cuda = a_job(tmp_path, *BLOCKS[:2], key=RuntimeKey("torch", processor="cuda"))
    with pytest.raises(MeasurementError, match="finds no CUDA device here"):
        events_of(cuda)


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        events_of(a_job(tmp_path, *BLOCKS[:2], key=RuntimeKey()))


@pytest.mark.parametrize("one_by_one", [False, True])
def test_disk_that_fills_up_is_no_blocks_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_by_one: bool
) -> None:
    real_prepare = run_job_file.prepare

    def prepare(subjects: Sequence[BlockOrPart], *more: Any) -> list[TimedLoop]:
        if BAD in subjects:
            raise StorageError("the disk is full")
        return real_prepare(subjects, *more)

    monkeypatch.setattr(run_job_file, "prepare", prepare)
    with pytest.raises(StorageError, match="the disk is full"):
        events_of(a_job(tmp_path, *BLOCKS[:3], one_by_one=one_by_one))


def test_reference_is_several_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Sequence[BlockOrPart]] = []
    real_prepare = run_job_file.prepare
    monkeypatch.setattr(
        run_job_file,
        "prepare",
        lambda subjects, *more: (prepared.append(subjects), real_prepare(subjects, *more))[1],
    )
    events_of(a_job(tmp_path, BLOCKS[0]))
    assert [*prepared[0]] == [REFERENCE_BLOCK] * run_job_file.REFERENCE_COPIES and [*prepared[1]] == [
        BLOCKS[0]
    ]


def counting(joules: Callable[[], float]) -> EnergyMeter:
    return EnergyMeter("synthetic", "nothing", 1e-3, joules)


def with_meter(monkeypatch: pytest.MonkeyPatch, meter: EnergyMeter | str) -> None:
    monkeypatch.setattr(run_job_file, "find_meter", lambda processor: meter)
    monkeypatch.setattr(run_job_file, "measure_idle_power_w", lambda meter, seconds: 0.0)


def test_energy_is_told_after_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def prepare(subjects: Sequence[BlockOrPart], *more: Any) -> list[TimedLoop]:
        def run(loops: int) -> float:
            nonlocal calls
            calls += loops
            time.sleep(1e-3)
            return loops * 1e-4

        return [run for _ in subjects]

    monkeypatch.setattr(run_job_file, "prepare", prepare)
    # Two millijoules a call, whatever runs.
    with_meter(monkeypatch, counting(lambda: 2e-3 * calls))
    events = events_of(replace(a_job(tmp_path, *BLOCKS[:2]), energy=True))
    energies = [event for event in events if "energy" in event]
    assert energies == [{"energy": index, "j": pytest.approx(2e-3)} for index in (0, 1)]
    assert events.index(energies[0]) > max(events.index(row) for row in rows(events).values())
    assert "energy by synthetic" in {event["progress"][2] for event in events if "progress" in event}


@pytest.mark.parametrize("meter", ["no meter: none here", counting(lambda: math.nan)])
def test_no_energy_where_nothing_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meter: EnergyMeter | str
) -> None:
    with_meter(monkeypatch, meter)
    events = events_of(replace(a_job(tmp_path, BLOCKS[2]), energy=True))
    assert {*rows(events)} == {0} and not any("energy" in event for event in events)


def test_energy_is_not_measured_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_job_file, "find_meter", lambda processor: pytest.fail(processor))
    events_of(a_job(tmp_path, BLOCKS[2]))
