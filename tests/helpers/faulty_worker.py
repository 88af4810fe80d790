"""A worker in which blocks fail depending on their kernel size.

3 works; 5 raises while it is prepared; when they run, 7 raises, 9 hangs and 11 kills its process.

Arguments: `real` (blocks run in the runtime) or `synthetic` (nothing runs); the call at which a block fails.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

if sys.argv[1] == "synthetic":
    import synthetic_runtime  # noqa: F401

from jmsnas.profiler.session import run_job, worker
from jmsnas.space import Block

real_prepare = run_job.prepare


def prepare(subjects: Any, key: Any, cache: Path, *more: Any) -> list[Any]:
    print("this line is no event", flush=True)
    os.write(1, b"nor is this\n")
    sizes = [subject.candidate.kernel_size if isinstance(subject, Block) else 3 for subject in subjects]
    if 5 in sizes:
        raise RuntimeError("no such kernel\nfile x, line y")
    ready = real_prepare(subjects, key, cache, *more)
    return [_faulty(timed, kernel_size) for timed, kernel_size in zip(ready, sizes, strict=True)]


def _faulty(timed: Any, kernel_size: int) -> Any:
    calls = 0

    def run(loops: int) -> float:
        nonlocal calls
        calls += 1
        if calls >= int(sys.argv[2]):
            if kernel_size == 7:
                raise RuntimeError("not enough memory\nfile x, line y")
            if kernel_size == 9:
                time.sleep(3600)
            if kernel_size == 11:
                os.kill(os.getpid(), signal.SIGSEGV)
        return float(timed(loops))

    return run


run_job.prepare = prepare  # type: ignore[assignment]
worker.main()
