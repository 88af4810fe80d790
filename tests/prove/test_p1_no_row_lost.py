"""P1: no completed row is lost or duplicated, and the table can always be read."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from profiling_jobs import EAGER
from prove.faults import Faults, inject
from prove.proof import Proof
from prove.synthetic_blocks import Confirmed, ConfirmingRunner, Samples, synthetic_blocks

from jmsnas.errors import JmsnasError
from jmsnas.profiler.profile import ProfileOptions, update_table
from jmsnas.profiler.table.journal import journal_path, read_journal
from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.profiler.table.parquet import read_table

TESTS = Path(__file__).parents[1]


def run(folder: Path, runner: ConfirmingRunner, known: int) -> LatencyTable:
    path = folder / "local.parquet"
    options = ProfileOptions(warn=print, read_host=None, run_job=runner)
    return update_table("local", synthetic_blocks(known), [EAGER], path, folder, options)


def merged_but_not_removed(folder: Path, runner: ConfirmingRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a merged row of two processes and the journal of the second, as a kill in between does."""
    waiting, unlink, written = journal_path(folder / "local.parquet"), os.unlink, b""

    def noted(path: Path) -> None:
        nonlocal written
        written = Path(path).read_bytes()
        unlink(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", noted)
        (row,) = run(folder, runner, known=1).all_rows
    assert len(row.process_rounds) == 2
    waiting.write_bytes(written)


@pytest.mark.parametrize(("number", "full"), [(errno.EIO, False), (errno.ENOSPC, True)])
def test_every_file_call_fails_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof, number: int, full: bool
) -> None:
    # fsync matters only after a power cut, and would take nearly all of the time.
    monkeypatch.setattr(os, "fsync", lambda file: None)
    before = Confirmed()
    merged_but_not_removed(tmp_path / "before", ConfirmingRunner(before), monkeypatch)
    met, at, faults = set[str](), 0, Faults(last="none yet")
    while faults.last:
        at += 1
        folder, faults = tmp_path / str(at), Faults(at, number, full)
        shutil.copytree(tmp_path / "before", folder)
        confirmed = Confirmed(before.rows)
        runner = ConfirmingRunner(confirmed, random.Random(at))
        with monkeypatch.context() as patched:
            inject(patched, folder, faults)
            try:
                run(folder, runner, known=2)
            except (JmsnasError, OSError) as error:
                assert "\n" not in str(error)
        read_table(folder / "local.parquet")
        confirmed.check(run(folder, runner, known=2).all_rows)
        met.add(faults.last)
    assert {"open", "write", "fsync", "open to write", "file.write", "replace"} <= met
    assert full or {"open to read", "unlink", "ftruncate"} <= met
    how = "from every file call on" if full else "at every file call once"
    proof.show(
        f"{errno.errorcode[number]} {how}: {at - 1} points, 0 rows lost or duplicated, 0 tables unreadable"
    )


def test_kill_at_random_moments(tmp_path: Path, proof: Proof) -> None:
    kills, a_table, rows, left_over = proof.count(10, prove=30, long=1000), 5, 0, 0
    command = [sys.executable, "-m", "prove.killed"]
    with subprocess.Popen(
        command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as killer:
        assert killer.stdin is not None and killer.stdout is not None
        for seed in range(kills):
            folder = tmp_path / str(seed // a_table)
            folder.mkdir(exist_ok=True)
            print(seed, folder, file=killer.stdin, flush=True)
            assert killer.stdout.readline() == "killed\n"
            path = folder / "local.parquet"
            if path.exists():
                read_table(path)
            left_over += bool(read_journal(journal_path(path)).records)
            if seed % a_table == a_table - 1:
                confirmed = Confirmed(confirmed_in(folder))
                table = run(folder, ConfirmingRunner(confirmed), known=1)
                confirmed.check(table.all_rows)
                rows += len(confirmed.rows)
        killer.stdin.close()
    assert rows > 3 * kills and left_over > kills / 10, "too little was going on to show anything"
    proof.show(
        f"{kills} kills, {left_over} of them before the end of a merge: {rows} rows, 0 lost or duplicated, "
        "0 tables unreadable"
    )


def confirmed_in(folder: Path) -> list[tuple[str, Samples]]:
    lines = (folder / "confirmed").read_bytes().splitlines()
    return [(block, tuple(samples)) for block, samples in map(json.loads, lines)]
