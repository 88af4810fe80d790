"""Worker process that runs one profiling job: a JSON line on stdin, events as JSON lines on stdout.

It ends when stdin closes, and so with its parent process, however that ends.
"""

import json
import mmap
import os
import struct
import sys
import threading
from pathlib import Path
from typing import Any

from jmsnas.errors import JmsnasError, MeasurementError

# (number of heartbeats, index of the running block or -1): written before every sample, read by the parent.
HEARTBEAT = struct.Struct("<qq")


def main() -> None:
    """Run one job; errors are events as well, and the exit code is 0."""
    # Events use a descriptor of their own, so that text a library prints cannot mix with them.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    document = json.loads(sys.stdin.readline())
    threading.Thread(target=_exit_with_parent, daemon=True).start()

    def on_event(event: dict[str, Any]) -> None:
        out.write(json.dumps(event, allow_nan=False) + "\n")

    with (
        Path(document["heartbeat"]).open("r+b") as file,
        mmap.mmap(file.fileno(), HEARTBEAT.size) as heartbeat,
    ):
        count, running = 0, -1

        def on_start(index: int) -> None:
            nonlocal count, running
            count, running = count + 1, index
            HEARTBEAT.pack_into(heartbeat, 0, count, index)

        try:
            from jmsnas.profiler.session.job import job_from_document
            from jmsnas.profiler.session.run_job import run_job

            run_job(job_from_document(document["job"]), on_event, on_start)
            on_event({"done": True})
        except JmsnasError as error:
            if isinstance(error, MeasurementError) and running >= 0:
                on_event({"raised": str(error)})  # an error of one block, not of the runtime
            else:
                on_event({"error": type(error).__name__, "why": str(error)})
        except Exception as error:  # an exception of the runtime; the parent knows which block ran
            reason = str(error).partition("\n")[0]
            on_event({"raised": f"{type(error).__name__}: {reason}"})


def _exit_with_parent() -> None:
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    main()
