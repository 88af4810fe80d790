"""A worker in which blocks go wrong as their kernel size says.

3 is sound; 5 raises when it is made ready; when they run, 7 raises, 9 hangs and 11 kills its process.

Arguments: `real` (blocks run in the run time) or `made-up` (nothing does); at which call a block goes wrong.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

if sys.argv[1] == "made-up":
    import synthetic_runtime  # noqa: F401

from jmsnas.profiler.session import run_job as sitting
from jmsnas.profiler.session import worker
from jmsnas.space import Block

whole = sitting.prepare


def prepare(subjects: Any, key: Any, cache: Path, *more: Any) -> list[Any]:
    print("this line is no answer", flush=True)
    os.write(1, b"nor is this\n")
    sizes = [subject.candidate.kernel_size if isinstance(subject, Block) else 3 for subject in subjects]
    if 5 in sizes:
        raise RuntimeError("no such kernel\nfile x, line y")
    ready = whole(subjects, key, cache, *more)
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


sitting.prepare = prepare  # type: ignore[assignment]
worker.main()
