"""For every `<seed> <folder>` on stdin: fork a profiler that writes rows without end, and kill it.

Loaded once, forked often: torch alone takes seconds to load. A confirmed row is noted in `<folder>/confirmed`
by one write, which outlives the process.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from profiling_jobs import EAGER
from prove.synthetic_blocks import Samples, Sit, synthetic_blocks

from jmsnas.profiler.profile import profile


def main() -> None:
    # What fsync does is seen after a power cut alone, and a profiler would be killed in little else.
    os.fsync = lambda file: None
    with tempfile.TemporaryDirectory() as folder:  # what is slow the first time
        write(Path(folder), random.Random(), sittings=1)
    for line in sys.stdin:
        seed, folder = line.split()
        generator = random.Random(int(seed))
        child = os.fork()
        if child == 0:
            write(Path(folder), generator, sittings=500)
        time.sleep(generator.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("killed", flush=True)


def write(folder: Path, generator: random.Random, sittings: int) -> None:
    notes = os.open(folder / "confirmed", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def confirm(block: str, samples: Samples) -> None:
        os.write(notes, json.dumps([block, samples]).encode() + b"\n")

    sit, path = Sit(confirm, generator), folder / "local.parquet"
    # Two blocks more each time, so that there is a fold to be killed in every few milliseconds.
    for known in range(2, 2 * sittings + 1, 2):
        profile("local", synthetic_blocks(known), [EAGER], path, cache=folder, warn=ignored, sit=sit)


def ignored(text: str) -> None:
    """Do not print it: stdout is the parent's."""


if __name__ == "__main__":
    main()
