"""A sitting in a process of its own, so that a block that hangs or kills the process costs only itself."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jmsnas import errors
from jmsnas.errors import JmsnasError, MeasurementError
from jmsnas.profiler.session.job import EventHandler, ProfileJob
from jmsnas.profiler.session.worker import HEARTBEAT

WORKER_COMMAND = (sys.executable, "-m", "jmsnas.profiler.session.worker")
# No sample of a block that can be searched takes that long; an export of many on a small board may.
_PATIENCE_S, _PREPARING_PATIENCE_S = 60.0, 900.0
_LINE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class _End:
    """How a worker ended: well, or with what its last words or its exit say, at which block."""

    done: bool
    why: str
    index: int


def run_in_subprocess(
    job: ProfileJob,
    report: EventHandler,
    tick: Callable[[], None] = lambda: None,
    worker: Sequence[str] = WORKER_COMMAND,
    patience_s: float = _PATIENCE_S,
) -> None:
    """Measure the blocks of a job in a fresh process, and tell what it tells.

    A block in which the process dies, raises or makes no progress for `patience_s` is told as failed, with
    the reason, and a new process goes on with those that are left.

    Parameters
    ----------
    job, report
        As in `jmsnas.profiler.session.run_job.sit`.
    tick
        Called about every 0.2 s meanwhile.
    worker
        Command line of the process; `python -m jmsnas.profiler.session.worker`.

    Raises
    ------
    MeasurementError
        When the process fails twice outside any block, or the run time cannot run here.
    StorageError
        When the process cannot write its cache.
    """
    left = list(range(len(job.subjects)))
    one_by_one, budget_s = job.one_by_one, job.config.budget_s
    while left:
        share = len(left) / len(job.subjects)
        part = replace(
            job,
            subjects=tuple(job.subjects[index] for index in left),
            config=replace(job.config, budget_s=max(budget_s * share, 1e-3)),
            one_by_one=one_by_one,
        )
        settled: set[int] = set()
        end = _run(part, _translated(report, left, settled), tick, worker, patience_s)
        if end.done:
            return
        if end.index >= 0:
            if end.index not in settled:  # else it has its row, and died while that was refined
                report({"failed": left[end.index], "why": end.why})
            settled.add(end.index)
        elif one_by_one:
            raise MeasurementError(
                f"the process that measures {job.key.label} failed twice: {end.why}. "
                "Run the same command again; what was finished is kept"
            )
        one_by_one = True
        left = [index for position, index in enumerate(left) if position not in settled]


def _translated(report: EventHandler, left: Sequence[int], settled: set[int]) -> EventHandler:
    """Report with the indices of the whole job, noting which blocks have their answer."""

    def translated(event: dict[str, Any]) -> None:
        for name in ("row", "failed", "energy"):
            if name in event:
                if name != "energy":
                    settled.add(event[name])
                event = {**event, name: left[event[name]]}
        report(event)

    return translated


def _run(
    job: ProfileJob, report: EventHandler, tick: Callable[[], None], worker: Sequence[str], patience_s: float
) -> _End:
    with tempfile.TemporaryDirectory(prefix="jmsnas-") as folder:
        beat, log = Path(folder, "beat"), Path(folder, "log")
        beat.write_bytes(HEARTBEAT.pack(0, -1))
        with log.open("wb") as said, _started(worker, said) as process:
            with suppress(BrokenPipeError):  # it died at once; how is told below
                process.stdin.write(json.dumps({"job": job.document(), "beat": str(beat)}).encode() + b"\n")
                process.stdin.flush()
            end = _follow(process, beat, report, tick, patience_s)
        last_words = log.read_text(errors="replace").strip().rpartition("\n")[2][:200]
    if end.done or not last_words:
        return end
    return replace(end, why=f"{end.why} ({last_words})")


@contextmanager
def _started(worker: Sequence[str], said: Any) -> Iterator[Any]:
    try:
        # A session of its own: Ctrl-C at the terminal reaches this process alone, which then ends the other.
        process: Any = subprocess.Popen(
            worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, start_new_session=True
        )
    except OSError as error:
        raise MeasurementError(
            f"cannot start {worker[0]} to measure in: {error.strerror or error}. "
            "Free some memory or processes, then run the same command again; what was finished is kept"
        ) from error
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):
                stream.close()


def _follow(
    process: Any, beat: Path, report: EventHandler, tick: Callable[[], None], patience_s: float
) -> _End:
    """Pass on what the process tells until it ends, or shows no life for too long."""
    lines, seen, alive = b"", HEARTBEAT.unpack(beat.read_bytes()), time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            ready = selector.select(0.2)
            tick()
            now = HEARTBEAT.unpack(beat.read_bytes())
            if ready or now != seen:
                seen, alive = now, time.monotonic()
            elif time.monotonic() - alive > (patience_s if seen[0] else _PREPARING_PATIENCE_S):
                return _End(False, f"no sign of life for {time.monotonic() - alive:.0f} s", seen[1])
            if not ready:
                continue
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                return _End(False, _exit_words(process.wait()), HEARTBEAT.unpack(beat.read_bytes())[1])
            *whole, lines = (lines + chunk).split(b"\n")
            if len(lines) > _LINE_BYTES:
                raise MeasurementError("the process that measures sent a line without end: run it again")
            for line in whole:
                event = json.loads(line)
                if "done" in event:
                    return _End(True, "", -1)
                if "error" in event:
                    kind = getattr(errors, event["error"], MeasurementError)
                    raise (
                        kind(event["why"])
                        if issubclass(kind, JmsnasError)
                        else MeasurementError(event["why"])
                    )
                if "raised" in event:
                    return _End(False, event["raised"], HEARTBEAT.unpack(beat.read_bytes())[1])
                report(event)


def _exit_words(code: int) -> str:
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"
