"""Time blocks on a device, with the same code as at home, in a process apart that ends with its caller.

Agent: `bench`. Child: this module; stdin holds the job's JSON line and the models behind their lengths.
"""

import json
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jmsnas.deploy.transport.frame import pack_message, unpack_message
from jmsnas.errors import FrameError

if TYPE_CHECKING:
    from jmsnas.deploy.agent.part_lifecycle import AgentParts
    from jmsnas.profiler.timing.paired_timing import TimedLoop

_LENGTH = struct.Struct(">I")
_MOST_BLOCKS = 5000
_LOOK_S = 0.2


def run_timing_job(parts: "AgentParts", message: bytes, context: Any) -> Iterator[bytes]:
    """Run a job that the leader sent, and tell each event the moment it is there.

    The caller's end, or its loss, ends the child at once. Raises FrameError, PartError.
    """
    job = _job(bytes(unpack_message(message)[1]))
    models = [parts.block(digest) for digest in job.pop("models")]
    with _child({**job, "blocks": len(models)}, models) as (process, lines):
        while context.is_active():
            try:
                line = lines.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if line:
                yield pack_message({}, line)
                continue
            if code := process.wait():
                yield pack_message({}, json.dumps({"ended": code}).encode())
            return


@contextmanager
def _child(job: dict[str, Any], models: list[bytes]) -> Iterator[tuple[Any, "queue.Queue[bytes]"]]:
    """Start a child on a job, and give it and the lines that it tells; an empty one is the last."""
    process: Any = subprocess.Popen(
        [sys.executable, "-m", "jmsnas.deploy.agent.remote_timing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    lines: queue.Queue[bytes] = queue.Queue()

    def feed() -> None:
        with suppress(OSError):
            process.stdin.write(json.dumps(job).encode() + b"\n")
            for model in models:
                process.stdin.write(_LENGTH.pack(len(model)) + model)
            process.stdin.flush()  # it stays open: its end is the child's end

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


def _job(content: bytes) -> dict[str, Any]:
    try:
        job = json.loads(content)
        models, references = job["models"], job["references"]
        fine = len(models) <= _MOST_BLOCKS and 0 < references < len(models)
        if not fine or not all(isinstance(digest, str) for digest in models) or set(job) != _KEYS:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FrameError("a job that cannot be read: update jmsnas here or on the leader") from None
    return dict(job)


_KEYS = {"models", "references", "threads", "seed", "config"}


def main() -> None:
    """Time the blocks that come on stdin; events leave on stdout, a JSON line each."""
    from jmsnas.profiler.host.affinity import on_idlest_cores
    from jmsnas.profiler.host.host_monitor import HostMonitor, read_host
    from jmsnas.profiler.table.measurement import Measurement
    from jmsnas.profiler.timing.paired_timing import Clocks, TimingConfig, measure

    job = json.loads(sys.stdin.buffer.readline())
    references = job["references"]
    ready = _ready(job)
    indices, timed = [index for index, _ in ready], [call for _, call in ready]
    threading.Thread(target=_end_with_caller, daemon=True).start()
    watch, looked = HostMonitor(read_host, lambda line: _tell({"tell": line}), set()), [0.0]

    def finished(position: int, found: Measurement) -> None:
        _tell({"row": indices[references + position], **asdict(found), "faults": watch.faults})

    def progress(done: float, of: float, what: str) -> None:
        if time.monotonic() - looked[0] > 1:
            looked[0] = time.monotonic()
            watch.look()
            _tell({"progress": [0.3 + 0.7 * done / of, 1.0, what]})

    with on_idlest_cores(job["threads"]):
        measure(
            timed[references:],
            timed[:references],
            finished,
            TimingConfig(**job["config"]),
            job["seed"],
            progress=progress,
            clocks=Clocks(core=time.thread_time_ns),
        )
    _tell({"faults": watch.end()})
    _tell({"done": True})


def _ready(job: dict[str, Any]) -> list[tuple[int, "TimedLoop"]]:
    """Make blocks ready, each with its place in the job; the references, whose places are negative, first."""
    import numpy as np

    from jmsnas.deploy.parts.onnx_scan import scan_onnx
    from jmsnas.profiler.timing.onnx_session import open_session, timed_session

    stdin, rng = sys.stdin.buffer, np.random.default_rng(job["seed"])
    found = []
    for position in range(job["blocks"]):
        (length,) = _LENGTH.unpack(stdin.read(_LENGTH.size))
        model, index = stdin.read(length), position - job["references"]
        try:
            scan_onnx(model)
            session = open_session(model, job["threads"])
            timed = timed_session(session, rng.standard_normal(session.get_inputs()[0].shape))
            timed(1)
        except Exception as error:  # whatever a run time throws at one block must not end the sweep
            if index < 0:
                raise
            why = str(error).partition("\n")[0][:200] or type(error).__name__
            _tell({"failed": index, "why": why})
            continue
        found.append((index, timed))
        _tell({"progress": [0.3 * position / job["blocks"], 1.0, "making blocks ready"]})
    return found


def _tell(event: dict[str, Any]) -> None:
    print(json.dumps(event, allow_nan=False), flush=True)


def _end_with_caller() -> None:
    import os

    sys.stdin.buffer.read()
    os._exit(3)


if __name__ == "__main__":
    main()
