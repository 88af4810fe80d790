"""For every `<seed> <folder>` on stdin, fork a profiler that writes rows endlessly, and kill it.

The parent imports torch once, as that takes seconds. A confirmed row is appended to `<folder>/confirmed` by
one write, which survives the process.
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
from prove.synthetic_blocks import ConfirmingRunner, Samples, synthetic_blocks

from jmsnas.profiler.profile import ProfileOptions, update_table


def main() -> None:
    # fsync matters only after a power cut, and most kills would hit it.
    os.fsync = lambda file: None
    with tempfile.TemporaryDirectory() as folder:  # warm up
        write(Path(folder), random.Random(), jobs=1)
    for line in sys.stdin:
        seed, folder = line.split()
        generator = random.Random(int(seed))
        child = os.fork()
        if child == 0:
            write(Path(folder), generator, jobs=500)
        # At a random row, so that the number of rows does not depend on the speed of the machine.
        wanted = confirmed(Path(folder)) + generator.randrange(40)
        while confirmed(Path(folder)) < wanted:
            time.sleep(1e-3)
        time.sleep(generator.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("killed", flush=True)


def confirmed(folder: Path) -> int:
    """Count the confirmed rows."""
    notes = folder / "confirmed"
    return notes.read_bytes().count(b"\n") if notes.exists() else 0


def write(folder: Path, generator: random.Random, jobs: int) -> None:
    notes = os.open(folder / "confirmed", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def confirm(block: str, samples: Samples) -> None:
        os.write(notes, json.dumps([block, samples]).encode() + b"\n")

    options = ProfileOptions(warn=ignored, read_host=None, run_job=ConfirmingRunner(confirm, generator))
    # Two more blocks each time, so that the journal is merged every few milliseconds.
    for known in range(2, 2 * jobs + 1, 2):
        update_table("local", synthetic_blocks(known), [EAGER], folder / "local.parquet", folder, options)


def ignored(text: str) -> None:
    """Discard a warning: stdout belongs to the protocol with the parent."""


if __name__ == "__main__":
    main()
