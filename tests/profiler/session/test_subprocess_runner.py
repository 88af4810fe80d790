"""Jobs in worker processes; most of them have a synthetic runtime, as loading torch takes seconds."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from profiling_jobs import EAGER, PART

from jmsnas.errors import MeasurementError, StorageError
from jmsnas.profiler.session.job import ProfileJob, job_from_document
from jmsnas.profiler.session.subprocess_runner import WORKER_COMMAND, run_in_subprocess
from jmsnas.profiler.timing.paired_timing import TimingConfig
from jmsnas.space import Block, BlockOrPart, Candidate, Layer

HELPERS = Path(__file__).parents[2] / "helpers"
SOUND, UNREADY, RAISES, HANGS, DIES = (
    Block(Candidate(kernel_size, 3), Layer(8, 8, 1, 4, 4)) for kernel_size in (3, 5, 7, 9, 11)
)
OTHER = Block(Candidate(3, 6), Layer(8, 8, 1, 4, 4))
SEGFAULT = "its process was ended by SIGSEGV"


def job(folder: Path, *subjects: BlockOrPart) -> ProfileJob:
    config = TimingConfig(budget_s=0.2, warm_up_s=0.01)
    return ProfileJob(EAGER, subjects, folder / "cache", 0, config, energy=False)


def faulty(runtime: str = "synthetic", call: int = 1) -> tuple[str, ...]:
    return (sys.executable, str(HELPERS / "faulty_worker.py"), runtime, str(call))


def results_of(
    job: ProfileJob, worker: Sequence[str] = WORKER_COMMAND, timeout_s: float = 1.5
) -> dict[str, dict[int, Any]]:
    """Return the last row and failure of each block, by its index."""
    found: dict[str, dict[int, Any]] = {"row": {}, "failed": {}}

    def on_event(event: dict[str, Any]) -> None:
        for name in found:
            if name in event:
                found[name][event[name]] = event["why"] if name == "failed" else event["ratio"]

    run_in_subprocess(job, on_event, worker=worker, timeout_s=timeout_s)
    return found


def test_blocks_that_fail_cost_only_themselves(tmp_path: Path) -> None:
    found = results_of(job(tmp_path, UNREADY, SOUND, RAISES, HANGS, DIES, OTHER), faulty("real"), 2.0)
    assert [*found["failed"]] == [0, 2, 3, 4] and sorted(found["row"]) == [1, 5]
    why = found["failed"]
    assert why[0] == "no such kernel" and why[2] == "not enough memory"
    assert why[3].startswith("no heartbeat for 2 s") and why[4].startswith(SEGFAULT)
    assert all(ratio > 0 for ratio in found["row"].values())


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (RAISES, "RuntimeError: not enough memory"),
        (HANGS, "no heartbeat for 2 s"),
        (DIES, SEGFAULT),
    ],
)
def test_block_that_fails_between_others(tmp_path: Path, bad: Block, why: str) -> None:
    # The twentieth call is in the rounds. The next process prepares the blocks one by one.
    found = results_of(job(tmp_path, SOUND, bad, PART), faulty(call=20))
    assert [*found["failed"]] == [1] and found["failed"][1].startswith(why)
    assert found["row"] == {0: 1.0, 2: 1.0}


def test_nothing_but_blocks_that_fail(tmp_path: Path) -> None:
    found = results_of(job(tmp_path, DIES, RAISES, UNREADY), faulty())
    assert found["row"] == {} and sorted(found["failed"]) == [0, 1, 2]


def test_what_is_printed_is_no_answer_but_the_reason_of_an_end(tmp_path: Path) -> None:
    found = results_of(job(tmp_path, DIES), faulty())
    assert found["failed"][0] == f"{SEGFAULT} (nor is this)"


# Records its job; of three blocks it finishes two and ends, for fewer it reports that it is done.
_RECORDING_WORKER = """
import json, sys
job = json.loads(sys.stdin.readline())["job"]
with open(sys.argv[1], "a") as file:
    print(json.dumps(job), file=file)
finish_two = [{"row": 2, "ratio": 1.0}, {"failed": 0, "why": "no"}]
for answer in finish_two if len(job["subjects"]) == 3 else [{"done": True}]:
    print(json.dumps(answer), flush=True)
"""


def test_next_process_gets_what_is_left_and_its_share_of_the_time(tmp_path: Path) -> None:
    given = job(tmp_path, SOUND, OTHER, PART)
    found = results_of(given, (sys.executable, "-c", _RECORDING_WORKER, str(tmp_path / "jobs")))
    assert found == {"row": {2: 1.0}, "failed": {0: "no"}}
    first, second = (
        job_from_document(json.loads(line)) for line in (tmp_path / "jobs").read_text().splitlines()
    )
    assert first == given
    third = replace(given.config, budget_s=given.config.budget_s / 3)
    assert second == replace(given, subjects=(OTHER,), config=third, one_by_one=True)


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        ((sys.executable, "-c", "raise SystemExit(7)"), "failed twice: its process ended with exit code 7"),
        ((sys.executable, "-c", "import nowhere"), r"exit code 1 \(ModuleNotFoundError: No module named"),
        (("/nowhere/python",), "cannot start /nowhere/python to measure in: No such file or directory"),
    ],
)
def test_worker_that_cannot_start(tmp_path: Path, worker: tuple[str, ...], message: str) -> None:
    with pytest.raises(MeasurementError, match=message) as refused:
        results_of(job(tmp_path, SOUND), worker)
    assert "un the same command again; finished rows are kept" in str(refused.value)


def test_run_time_that_cannot_run_here_is_said_as_it_is(tmp_path: Path) -> None:
    cuda = replace(job(tmp_path, SOUND), key=replace(EAGER, processor="cuda"))
    with pytest.raises(MeasurementError, match="finds no CUDA device here. Check nvidia-smi"):
        results_of(cuda)
    (tmp_path / "cache").write_text("")
    onnx = replace(job(tmp_path, SOUND), key=replace(EAGER, runtime="onnxruntime"))
    with pytest.raises(StorageError, match="cannot write"):
        results_of(onnx)


def test_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmsnas.profiler.session.subprocess_runner._MAX_LINE_BYTES", 1000)
    worker = (sys.executable, "-c", "import time; print('x' * 2000, end='', flush=True); time.sleep(60)")
    with pytest.raises(MeasurementError, match="sent a line without end: run it again"):
        results_of(job(tmp_path, SOUND), worker)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_worker_is_ended_with_its_job(tmp_path: Path) -> None:
    before, met, ticks = children(os.getpid()), list[int](), 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 4:
            met.extend({*children(os.getpid())} - {*before})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_subprocess(job(tmp_path, HANGS), lambda event: None, tick, faulty())
    assert len(met) == 1 and children(os.getpid()) == before


_CALLER = """
import synthetic_runtime, sys
from pathlib import Path
from jmsnas.profiler.session.subprocess_runner import run_in_subprocess
from jmsnas.profiler.session.job import ProfileJob
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.timing.paired_timing import TimingConfig
from jmsnas.space import Block
job = ProfileJob(RuntimeKey("torch"), (Block.parse(sys.argv[1]),), Path("."), 0, TimingConfig(), energy=False)
run_in_subprocess(job, print, lambda: print("tick", flush=True), sys.argv[2:])
"""


def test_worker_ends_when_its_caller_is_killed(tmp_path: Path) -> None:
    caller = subprocess.Popen(
        [sys.executable, "-c", _CALLER, str(HANGS), *faulty()],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert caller.stdout is not None
    assert [caller.stdout.readline() for _ in range(5)] == [
        b"tick\n"
    ] * 5  # a second: the block hangs by then
    (worker,) = children(caller.pid)
    assert alive(worker)
    caller.kill()
    caller.wait()
    caller.stdout.close()
    end = time.monotonic() + 60
    while time.monotonic() < end and alive(worker):
        time.sleep(0.02)
    assert not alive(worker)


def alive(pid: int) -> bool:
    try:
        # An orphan whose parent does not wait for it remains as a zombie.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
