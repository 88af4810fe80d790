"""P9: Ctrl-C ends the profiler at once and keeps its rows; the same command resumes."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from prove.proof import LEVEL, LEVELS, Proof

from jmsnas.profiler.table.journal import journal_path, read_journal
from jmsnas.profiler.table.latency_table import AnyRow
from jmsnas.profiler.table.parquet import read_table
from jmsnas.profiler.table.schema import row_from_record
from jmsnas.profiler.table.trust import is_disturbed

BLOCKS = 53
# A given budget is spent completely, so that rows are reported for seconds.
WORDS = (
    *("profile", "--space", "digits", "--runtime", "torch"),
    *("--off-grid", "0", "--parts", "0", "--budget", "8s"),
)
# It prints a line before the command starts: before that, Ctrl-C would end the start of Python.
# A shell's background job ignores SIGINT, and its children would too.
COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from jmsnas.cli import app
print('begins', flush=True)
app()
"""

# Returns whether to press Ctrl-C, given the table's path and the seconds since the command started.
Moment = Callable[[Path, float], bool]


def waiting(path: Path) -> int:
    """Return the number of rows in the journal."""
    return sum("row" in record for record in read_journal(journal_path(path)).records)


def rows_of(path: Path) -> list[AnyRow]:
    """Return all rows of the table and the journal."""
    records = read_journal(journal_path(path)).records
    waiting = [row_from_record(record["row"]) for record in records if "row" in record]
    return [*read_table(path).all_rows, *waiting] if path.exists() else waiting


def check_kept(before: list[AnyRow], after: list[AnyRow]) -> None:
    kept = {(row.block, sample) for row in after for sample in row.samples}
    for row in before:
        assert any(row.block == other.block for other in after), f"{row.block} is lost"
        # A disturbed row is replaced by one that is not.
        if not is_disturbed(row):
            assert all((row.block, sample) in kept for sample in row.samples), (
                f"{row.block}: samples are lost"
            )


MOMENTS: dict[str, Moment] = {
    "first row": lambda path, passed_s: waiting(path) > 0,
    "while it loads": lambda path, passed_s: passed_s > 0.5,
    "while the other process starts": lambda path, passed_s: journal_path(path).exists(),
    "amid the rows": lambda path, passed_s: waiting(path) > 8,
    "last row": lambda path, passed_s: (
        waiting(path) > 0 and len({row.block for row in rows_of(path)}) == BLOCKS
    ),
}


def left_over(mark: str) -> list[str]:
    """Return the running processes of this test, identified by an environment variable."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def stopped(workspace: Path, moment: Moment) -> tuple[float, float] | None:
    """Start the command, press Ctrl-C, and return the seconds until it ended, and those until it had started.

    Returns None if the command had ended before.
    """
    launched, mark, path = time.monotonic(), uuid.uuid4().hex, workspace / "tables" / "local.parquet"
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *WORDS, "--workspace", str(workspace)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JMSNAS_PROVE_RUN": mark},
        start_new_session=True,  # its own process group, so that Ctrl-C does not reach the tests
    )
    try:
        assert process.stdout and process.stdout.readline() == "begins\n"
        began = time.monotonic()
        start_s = began - launched
        while process.poll() is None and not moment(path, time.monotonic() - began):
            time.sleep(0.03)
        before = rows_of(path)
        if process.poll() is not None:
            assert process.returncode == 0
            return None
        pressed = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        seconds = time.monotonic() - pressed
    finally:
        process.kill()
        err = process.communicate()[1]
    assert process.returncode == 130, err
    assert err.endswith(f"Resume with: jmsnas {' '.join(WORDS)} --workspace {workspace}\n"), err
    assert "Traceback" not in err
    assert not left_over(mark) and not journal_path(path).exists(), "the journal is folded on the way out"
    check_kept(before, rows_of(path))
    return seconds, start_s


def test_moments_in_a_row(tmp_path: Path, proof: Proof) -> None:
    # One after the other in one workspace: each resumes where the one before was stopped.
    names = list(MOMENTS)[: proof.count(1, prove=5, long=5)]
    took = {name: stopped(tmp_path, MOMENTS[name]) for name in names}
    assert None not in took.values(), f"it ended before: {took}"
    check(proof, [times for times in took.values() if times])
    if len(names) > 1:
        assert stopped(tmp_path, lambda path, passed_s: False) is None
        assert len(read_table(tmp_path / "tables" / "local.parquet").rows) == BLOCKS


def test_random_moments(tmp_path: Path, proof: Proof) -> None:
    took = list[tuple[float, float]]()
    for seed in range(100):
        workspace, moment_s = tmp_path / str(seed // 5), random.Random(seed).uniform(0.3, 12)
        times = stopped(workspace, lambda path, passed_s, moment_s=moment_s: passed_s > moment_s)
        took += [] if times is None else [times]
    check(proof, took)


# Takes a quarter of an hour.
test_random_moments.__test__ = LEVELS.index("long") == LEVEL  # type: ignore[attr-defined]


def check(proof: Proof, took: list[tuple[float, float]]) -> None:
    assert took
    longest_s, start_s = max(seconds for seconds, _ in took), max(start_s for _, start_s in took)
    ended = proof.within("ended within", longest_s, 3, start_s, "the longest start of the command")
    proof.show(f"{len(took)} moments: {ended}, rows kept, no process left")
