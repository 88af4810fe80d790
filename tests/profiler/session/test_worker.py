"""The process that measures, spoken to as `subprocess_runner` does; its run time is synthetic."""

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
SPEAKS = (sys.executable, str(HELPERS / "faulty_worker.py"), "made-up", "20")
RAISES = Block(Candidate(7, 3), Layer(8, 8, 1, 4, 4))


def answers(
    folder: Path, job: ProfileJob, worker: tuple[str, ...] = SPEAKS
) -> tuple[list[dict[str, Any]], int, int]:
    """What the worker answers, the block it was at when it ended, and its exit code."""
    beat = folder / "beat"
    beat.write_bytes(HEARTBEAT.pack(0, -1))
    with subprocess.Popen(
        worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"job": job.document(), "beat": str(beat)}).encode() + b"\n")
        process.stdin.flush()
        lines = process.stdout.read().splitlines()
        code = process.wait()  # while its stdin is still open: it ends of itself
    return [json.loads(line) for line in lines], HEARTBEAT.unpack(beat.read_bytes())[1], code


def a_job(folder: Path, *subjects: Any) -> ProfileJob:
    return ProfileJob(EAGER, subjects, folder, 0, TimingConfig(budget_s=0.1, warm_up_s=0.01), energy=False)


def test_job_is_answered_in_json_whatever_is_printed(tmp_path: Path) -> None:
    told, at, code = answers(tmp_path, a_job(tmp_path, BLOCKS[0], PART))
    assert told[-1] == {"done": True} and (at, code) == (-1, 0)
    rows = {event["row"]: event for event in told if "row" in event}
    assert {*rows} == {0, 1} and {row["ratio"] for row in rows.values()} == {1.0}
    assert any(event["progress"][2] == "measuring" for event in told if "progress" in event)


def test_block_that_raises_is_the_last_word_with_its_number(tmp_path: Path) -> None:
    told, at, code = answers(tmp_path, a_job(tmp_path, BLOCKS[0], RAISES, BLOCKS[2]))
    assert told[-1] == {"raised": "RuntimeError: not enough memory"} and (at, code) == (1, 0)


# A run time in which every call takes no time at all, or that cannot run here.
_ODD = """
import sys
sys.path.insert(0, {here!r})
import synthetic_runtime
from jmsnas.errors import {error}
from jmsnas.profiler.session import run_job as sitting
from jmsnas.profiler.session import worker
def prepare(subjects, *more):
    {body}
sitting.prepare = prepare
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
def test_what_is_nobodys_fault_is_said_as_it_is(
    tmp_path: Path, error: str, body: str, expected: dict[str, str]
) -> None:
    script = _ODD.format(here=str(HELPERS), error=error, body=body)
    told, at, code = answers(tmp_path, a_job(tmp_path, BLOCKS[0]), (sys.executable, "-c", script))
    assert told == [expected] and (at, code) == (-1, 0)


def test_block_whose_clock_stands_is_that_blocks_fault(tmp_path: Path) -> None:
    body = "return [lambda loops: 0.0 if len(subjects) == 1 else loops * 1e-4 for _ in subjects]"
    script = _ODD.format(here=str(HELPERS), error="MeasurementError", body=body)
    told, at, code = answers(tmp_path, a_job(tmp_path, BLOCKS[0]), (sys.executable, "-c", script))
    assert told[-1]["raised"].startswith("the clock moved by 0 s over 1 calls") and (at, code) == (0, 0)
