"""The worker process, driven as by `subprocess_runner`, with a synthetic runtime."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from profiling_jobs import BLOCKS, EAGER, PART

from jmsnas.profiler.session.job import ProfileJob
from jmsnas.profiler.session.worker import HEARTBEAT
from jmsnas.profiler.timing.paired_timing import TimingConfig
from jmsnas.space import Block, Candidate, Layer

HELPERS = Path(__file__).parents[2] / "helpers"
WORKER = (sys.executable, str(HELPERS / "faulty_worker.py"), "synthetic", "20")
RAISES = Block(Candidate(7, 3), Layer(8, 8, 1, 4, 4))


def events_of(
    folder: Path, job: ProfileJob, worker: tuple[str, ...] = WORKER
) -> tuple[list[dict[str, Any]], int, int]:
    """Return the events of a worker, the block that ran when it ended, and its exit code."""
    heartbeat = folder / "heartbeat"
    heartbeat.write_bytes(HEARTBEAT.pack(0, -1))
    with subprocess.Popen(
        worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"job": job.document(), "heartbeat": str(heartbeat)}).encode() + b"\n")
        process.stdin.flush()
        lines = process.stdout.read().splitlines()
        code = process.wait()  # while its stdin is still open: it ends of itself
    return [json.loads(line) for line in lines], HEARTBEAT.unpack(heartbeat.read_bytes())[1], code


def a_job(folder: Path, *subjects: Any) -> ProfileJob:
    return ProfileJob(EAGER, subjects, folder, 0, TimingConfig(budget_s=0.1, warm_up_s=0.01), energy=False)


def test_events_are_json_whatever_is_printed(tmp_path: Path) -> None:
    events, at, code = events_of(tmp_path, a_job(tmp_path, BLOCKS[0], PART))
    assert events[-1] == {"done": True} and (at, code) == (-1, 0)
    rows = {event["row"]: event for event in events if "row" in event}
    assert {*rows} == {0, 1} and {row["ratio"] for row in rows.values()} == {1.0}
    assert any(event["progress"][2] == "measuring" for event in events if "progress" in event)


def test_block_that_raises_is_the_last_event(tmp_path: Path) -> None:
    events, at, code = events_of(tmp_path, a_job(tmp_path, BLOCKS[0], RAISES, BLOCKS[2]))
    assert events[-1] == {"raised": "RuntimeError: not enough memory"} and (at, code) == (1, 0)


# A runtime in which every call takes no time, or that is not available.
_ODD = """
import sys
sys.path.insert(0, {here!r})
import synthetic_runtime
from jmsnas.errors import {error}
from jmsnas.profiler.session import run_job, worker
def prepare(subjects, *more):
    {body}
run_job.prepare = prepare
worker.main()
"""


@pytest.mark.parametrize(
    ("error", "body", "expected"),
    [
        (
            "MeasurementError",
            "raise MeasurementError('not here')",
            {"error": "MeasurementError", "why": "not here"},
        ),
        ("StorageError", "raise StorageError('disk full')", {"error": "StorageError", "why": "disk full"}),
        ("StorageError", "raise KeyError('odd')", {"raised": "KeyError: 'odd'"}),
    ],
)
def test_error_outside_a_block_is_passed_on(
    tmp_path: Path, error: str, body: str, expected: dict[str, str]
) -> None:
    script = _ODD.format(here=str(HELPERS), error=error, body=body)
    events, at, code = events_of(tmp_path, a_job(tmp_path, BLOCKS[0]), (sys.executable, "-c", script))
    assert events == [expected] and (at, code) == (-1, 0)


def test_block_that_takes_no_time_is_the_last_event(tmp_path: Path) -> None:
    body = "return [lambda loops: 0.0 if len(subjects) == 1 else loops * 1e-4 for _ in subjects]"
    script = _ODD.format(here=str(HELPERS), error="MeasurementError", body=body)
    events, at, code = events_of(tmp_path, a_job(tmp_path, BLOCKS[0]), (sys.executable, "-c", script))
    assert events[-1]["raised"].startswith("the clock moved by 0 s over 1 calls") and (at, code) == (0, 0)
