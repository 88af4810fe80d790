"""Run a profiling job in a worker process, so that a block that hangs or crashes costs only itself."""

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
# No sample of a block of a search space takes that long; an export of many on a small board may.
_TIMEOUT_S, _PREPARING_TIMEOUT_S = 60.0, 900.0
_MAX_LINE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class _WorkerExit:
    """Outcome of a worker: `done`, or the reason it failed and the index of the block that ran (-1: none)."""

    done: bool
    why: str
    index: int


def run_in_subprocess(
    job: ProfileJob,
    on_event: EventHandler,
    tick: Callable[[], None] = lambda: None,
    worker: Sequence[str] = WORKER_COMMAND,
    timeout_s: float = _TIMEOUT_S,
) -> None:
    """Measure the blocks of a job in a worker process and pass on its events.

    A block during which the process dies, raises or makes no progress for `timeout_s` is reported as failed
    with the reason, and a new process continues with the remaining blocks.

    Parameters
    ----------
    job, on_event
        As in `jmsnas.profiler.session.run_job.run_job`.
    tick
        Called about every 0.2 s meanwhile.
    worker, timeout_s
        Command line of the process; longest time without a heartbeat, seconds.

    Raises
    ------
    MeasurementError, StorageError
        As `run_job`; MeasurementError also when the process fails twice outside any block.
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
        finished: set[int] = set()
        end = _run_worker(part, _reindexed(on_event, left, finished), tick, worker, timeout_s)
        if end.done:
            return
        if end.index >= 0:
            if end.index not in finished:  # otherwise it has a row, and failed while that was refined
                on_event({"failed": left[end.index], "why": end.why})
            finished.add(end.index)
        elif one_by_one:
            raise MeasurementError(
                f"the process that measures {job.key.label} failed twice: {end.why}. "
                "Run the same command again; finished rows are kept"
            )
        one_by_one = True
        left = [index for position, index in enumerate(left) if position not in finished]


def _reindexed(on_event: EventHandler, left: Sequence[int], finished: set[int]) -> EventHandler:
    """Map block indices of the remaining job to those of the whole job, and collect the finished ones."""

    def reindexed(event: dict[str, Any]) -> None:
        for name in ("row", "failed", "energy"):
            if name in event:
                if name != "energy":
                    finished.add(event[name])
                event = {**event, name: left[event[name]]}
        on_event(event)

    return reindexed


def _run_worker(
    job: ProfileJob, on_event: EventHandler, tick: Callable[[], None], worker: Sequence[str], timeout_s: float
) -> _WorkerExit:
    with tempfile.TemporaryDirectory(prefix="jmsnas-") as folder:
        heartbeat, log = Path(folder, "heartbeat"), Path(folder, "log")
        heartbeat.write_bytes(HEARTBEAT.pack(0, -1))
        with log.open("wb") as stderr, _started(worker, stderr) as process:
            with suppress(BrokenPipeError):  # it died at once; the reason is reported below
                document = {"job": job.document(), "heartbeat": str(heartbeat)}
                process.stdin.write(json.dumps(document).encode() + b"\n")
                process.stdin.flush()
            end = _follow(process, heartbeat, on_event, tick, timeout_s)
        last_line = log.read_text(errors="replace").strip().rpartition("\n")[2][:200]
    if end.done or not last_line:
        return end
    return replace(end, why=f"{end.why} ({last_line})")


@contextmanager
def _started(worker: Sequence[str], stderr: Any) -> Iterator[Any]:
    try:
        # In its own session: Ctrl-C at the terminal reaches this process only, which then ends the worker.
        process: Any = subprocess.Popen(
            worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
        )
    except OSError as error:
        raise MeasurementError(
            f"cannot start {worker[0]} to measure in: {error.strerror or error}. "
            "Free some memory or processes, then run the same command again; finished rows are kept"
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
    process: Any, heartbeat: Path, on_event: EventHandler, tick: Callable[[], None], timeout_s: float
) -> _WorkerExit:
    """Pass on the events of a worker until it ends, or its heartbeat stops for too long."""
    buffer, beat, alive = (b"", HEARTBEAT.unpack(heartbeat.read_bytes()), time.monotonic())
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            ready = selector.select(0.2)
            tick()
            now = HEARTBEAT.unpack(heartbeat.read_bytes())
            if ready or now != beat:
                beat, alive = now, time.monotonic()
            elif time.monotonic() - alive > (timeout_s if beat[0] else _PREPARING_TIMEOUT_S):
                return _WorkerExit(False, f"no heartbeat for {time.monotonic() - alive:.0f} s", beat[1])
            if not ready:
                continue
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                why = _exit_reason(process.wait())
                return _WorkerExit(False, why, HEARTBEAT.unpack(heartbeat.read_bytes())[1])
            *lines, buffer = (buffer + chunk).split(b"\n")
            if len(buffer) > _MAX_LINE_BYTES:
                raise MeasurementError("the process that measures sent a line without end: run it again")
            for line in lines:
                if end := _handle(json.loads(line), on_event, heartbeat):
                    return end


def _handle(event: dict[str, Any], on_event: EventHandler, heartbeat: Path) -> _WorkerExit | None:
    """Pass on one event; return the exit when it ends the worker, and raise the worker's JmsnasError."""
    if "done" in event:
        return _WorkerExit(True, "", -1)
    if "error" in event:
        kind = getattr(errors, event["error"], MeasurementError)
        raise (kind if issubclass(kind, JmsnasError) else MeasurementError)(event["why"])
    if "raised" in event:
        return _WorkerExit(False, event["raised"], HEARTBEAT.unpack(heartbeat.read_bytes())[1])
    on_event(event)
    return None


def _exit_reason(code: int) -> str:
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"
