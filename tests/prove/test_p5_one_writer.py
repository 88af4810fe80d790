"""P5: of two profilers of one table the second is refused at once with the first's process id."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from profiling_jobs import EAGER
from prove.proof import Proof
from prove.synthetic_blocks import ConfirmingRunner, synthetic_blocks

from jmsnas.errors import MeasurementError
from jmsnas.profiler.profile import ProfileOptions, update_table
from jmsnas.profiler.table.journal import table_lock


@contextmanager
def started(*words: object) -> Iterator[Any]:
    command = [sys.executable, "-m", "prove.holder", *map(str, words)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def holder(path: Path) -> Iterator[Any]:
    """Another process that holds the lock of the table."""
    with started(path) as process:
        assert process.stdout.readline() == f"{process.pid}\n"
        yield process


def refused(path: Path, pid: int) -> float:
    """Try to profile, and return the seconds until it was refused."""
    runner = ConfirmingRunner(lambda block, samples: pytest.fail("it measured"))
    options, blocks = ProfileOptions(read_host=None, run_job=runner), synthetic_blocks(1)
    began = time.monotonic()
    with pytest.raises(MeasurementError, match=re.escape(f"another profiler (process {pid})")):
        update_table("local", blocks, [EAGER], path, path.parent, options)
    return time.monotonic() - began


def is_free(path: Path) -> None:
    with table_lock(path):
        pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "local.parquet"


def test_second_is_refused_at_once(path: Path, proof: Proof) -> None:
    with holder(path) as first:
        # The fastest one: other processes may have held the core during the others.
        seconds = min(refused(path, first.pid) for _ in range(5))
    began = time.monotonic()
    is_free(path)
    free_s = time.monotonic() - began
    at_once = proof.within("second refused in", seconds, 20, free_s, "taking a free lock")
    proof.show(f"{at_once}, with the first's id")


def test_one_that_stands_still_is_still_there(path: Path, proof: Proof) -> None:
    with holder(path) as first:
        first.send_signal(signal.SIGSTOP)
        refused(path, first.pid)
    is_free(path)
    proof.show("stopped holder: second refused")


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_dead_holder_frees_it(path: Path, proof: Proof, ending: signal.Signals) -> None:
    with holder(path) as first:
        first.send_signal(ending)
        first.wait()
        is_free(path)
    proof.show(f"holder ended by {ending.name}: free at once")


def test_left_over_file_holds_nothing(path: Path, proof: Proof) -> None:
    path.with_name(f".{path.name}.lock").write_text(f"{os.getppid()}\n")
    is_free(path)
    proof.show("lock file of a running process that does not hold the lock: free")


def test_races(path: Path, proof: Proof) -> None:
    races, refusals = proof.count(50, long=1000), 0
    with started(path, races) as one, started(path, races) as two, started(path, races) as three:
        for process in (one, two, three):
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in (one, two, three):
            line = process.stdout.readline()
            assert line, "two were the only writer at once"
            refusals += int(line)
    assert refusals, "they never met"
    proof.show(f"3 processes, {races} times each: never two at once, {refusals} times refused")
