"""Time blocks on a device for a remote profiling session, in a child process that ends with its caller.

Agent: `run_timing_job`. Child: this module, whose stdin has the job as one JSON line, then each model after
its length. The blocks are timed by the same code as in a local session.
"""

import json
import os
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from jmsnas.deploy.transport.message import pack_message, unpack_message
from jmsnas.deploy.transport.responses import printable
from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import FrameError

if TYPE_CHECKING:
    from jmsnas.deploy.agent.part_lifecycle import AgentParts
    from jmsnas.profiler.timing.paired_timing import TimedLoop

_LENGTH = struct.Struct(">I")
_MAX_BLOCKS = 5000
_POLL_S = 0.2


class _TimingJob(msgspec.Struct, forbid_unknown_fields=True):
    """Blocks by digest, the first `references` of them reference blocks, and the settings of `measure`."""

    models: Annotated[list[str], Meta(max_length=_MAX_BLOCKS)]
    references: Annotated[int, Meta(ge=1)]
    threads: int
    seed: int
    config: dict[str, Any]


def run_timing_job(parts: "AgentParts", message: bytes, context: Any) -> Iterator[bytes]:
    """Run a timing job of the leader, and yield each event as it happens.

    The child ends when the caller does, or is lost. Raises FrameError, PartError.
    """
    job = decode_json(unpack_message(message)[1], _TimingJob, FrameError, "a timing job")
    if job.references >= len(job.models):
        raise FrameError(f"a timing job of {len(job.models)} models and {job.references} references")
    models = [parts.read_block(digest) for digest in job.models]
    with _child(job, models) as (process, lines):
        while context.is_active():
            try:
                line = lines.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if line:
                yield pack_message({}, line)
                continue
            if code := process.wait():
                yield pack_message({}, json.dumps({"ended": code}).encode())
            return


@contextmanager
def _child(job: _TimingJob, models: list[bytes]) -> Iterator[tuple[Any, "queue.Queue[bytes]"]]:
    """Start a child on a job; yield it and the queue of its lines, the last of which is empty."""
    process: Any = subprocess.Popen(
        [sys.executable, "-m", "jmsnas.deploy.agent.remote_timing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    lines: queue.Queue[bytes] = queue.Queue()

    def feed() -> None:
        with suppress(OSError):
            process.stdin.write(msgspec.json.encode(job) + b"\n")
            for model in models:
                process.stdin.write(_LENGTH.pack(len(model)) + model)
            process.stdin.flush()  # left open: the child ends when it closes

    def follow() -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put(b"")

    threads = [threading.Thread(target=work, daemon=True) for work in (feed, follow)]
    for thread in threads:
        thread.start()
    try:
        yield process, lines
    finally:
        process.kill()
        process.wait()
        for thread in threads:
            thread.join()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()


def main() -> None:
    """Time the blocks on stdin, and print each event as one JSON line."""
    from jmsnas.profiler.host.affinity import on_idlest_cores
    from jmsnas.profiler.host.host_monitor import HostMonitor
    from jmsnas.profiler.host.host_state import read_host_state
    from jmsnas.profiler.table.measurement import Measurement
    from jmsnas.profiler.timing.paired_timing import Clocks, TimingConfig, measure

    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=_TimingJob)
    prepared = _prepare(job)
    indices, timed = [index for index, _ in prepared], [loop for _, loop in prepared]
    threading.Thread(target=_end_with_caller, daemon=True).start()
    monitor, looked = (
        HostMonitor(read_host_state, lambda line: _send({"tell": printable(line)}), set()),
        [0.0],
    )

    def finished(position: int, found: Measurement) -> None:
        _send({"row": indices[job.references + position], **asdict(found), "faults": monitor.faults})

    def progress(done: float, of: float, what: str) -> None:
        if time.monotonic() - looked[0] > 1:
            looked[0] = time.monotonic()
            monitor.look()
            _send({"progress": [0.3 + 0.7 * done / of, 1.0, what]})

    with on_idlest_cores(job.threads):
        measure(
            timed[job.references :],
            timed[: job.references],
            finished,
            TimingConfig(**job.config),
            job.seed,
            progress=progress,
            clocks=Clocks(core=time.thread_time_ns),
        )
    _send({"faults": monitor.end()})
    _send({"done": True})


def _prepare(job: _TimingJob) -> list[tuple[int, "TimedLoop"]]:
    """Load the blocks, each with its index in the job; the references come first, with negative indices."""
    import numpy as np

    from jmsnas.deploy.parts.onnx_scan import scan_onnx
    from jmsnas.profiler.timing.onnx_session import open_session, timed_session

    stdin, rng = sys.stdin.buffer, np.random.default_rng(job.seed)
    found: list[tuple[int, TimedLoop]] = []
    for position in range(len(job.models)):
        (length,) = _LENGTH.unpack(stdin.read(_LENGTH.size))
        model, index = stdin.read(length), position - job.references
        try:
            scan_onnx(model)
            session = open_session(model, job.threads)
            timed = timed_session(session, rng.standard_normal(session.get_inputs()[0].shape))
            timed(1)
        except Exception as error:  # one block that a runtime refuses must not end the session
            if index < 0:
                raise
            why = printable(str(error).partition("\n")[0]) or type(error).__name__
            _send({"failed": index, "why": why})
            continue
        if not found:
            _send({"provider": session.get_providers()[0]})
        found.append((index, timed))
        _send({"progress": [0.3 * position / len(job.models), 1.0, "preparing blocks"]})
    return found


def _send(event: dict[str, Any]) -> None:
    print(json.dumps(event, allow_nan=False), flush=True)


def _end_with_caller() -> None:
    sys.stdin.buffer.read()
    os._exit(3)


if __name__ == "__main__":
    main()
