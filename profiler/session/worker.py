"""The process that measures: a job comes on stdin as one JSON line, results leave on stdout, a line each.

It ends when stdin closes, that is with the process that started it, whatever way that one ends.
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

# (beats so far, index of the block that runs, -1 for none): written before every sample, read from outside.
HEARTBEAT = struct.Struct("<qq")


def main() -> None:
    """Do one job; what goes wrong is told in a line, and the exit code is 0 all the same."""
    # What a library prints must not fall between the lines: they leave by a descriptor of their own.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    document = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_caller, daemon=True).start()

    def report(event: dict[str, Any]) -> None:
        out.write(json.dumps(event, allow_nan=False) + "\n")

    with Path(document["beat"]).open("r+b") as file, mmap.mmap(file.fileno(), HEARTBEAT.size) as beat:
        count, running = 0, -1

        def starting(index: int) -> None:
            nonlocal count, running
            count, running = count + 1, index
            HEARTBEAT.pack_into(beat, 0, count, index)

        try:
            from jmsnas.profiler.session.job import job_from_document
            from jmsnas.profiler.session.run_job import run_job

            run_job(job_from_document(document["job"]), report, starting)
            report({"done": True})
        except JmsnasError as error:
            if isinstance(error, MeasurementError) and running >= 0:
                report({"raised": str(error)})  # one block's fault, not the run time's
            else:
                report({"error": type(error).__name__, "why": str(error)})
        except Exception as error:  # a run time's own; the caller knows which block ran
            reason = str(error).partition("\n")[0]
            report({"raised": f"{type(error).__name__}: {reason}"})


def _end_with_caller() -> None:
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    main()
