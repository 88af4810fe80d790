"""What runs a block. docs/runtimes.md tells how to add one: a file with `prepare`, and a line below.

A block becomes a `Timed` under a key (run time, threads, batch, dtype, processor, layout, timer): a function
that runs it so many times in a row and gives the seconds that took.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from jmsnas.profiler import run_onnxruntime, run_torch
from jmsnas.profiler.table import Key
from jmsnas.profiler.timing import Timed
from jmsnas.progress import Progress, silent
from jmsnas.space import Subject

_PREPARE = {"onnxruntime": run_onnxruntime.prepare, "torch": run_torch.prepare}


def prepare(
    subjects: Sequence[Subject], key: Key, cache: Path, seed: int = 0, progress: Progress = silent
) -> list[Timed]:
    """Make blocks or whole parts ready to be timed under a key.

    Run what is returned inside `pinned(key)`.

    Parameters
    ----------
    subjects, key
        What to run, and how.
    cache
        Folder of exported models (onnxruntime).
    seed
        Seed of weights and inputs.
    progress
        Called with the number of blocks that are ready.

    Raises
    ------
    MeasurementError
        When the run time cannot run here, or refuses a block.
    StorageError
        When the cache cannot be written.
    """
    return _PREPARE[key.runtime](subjects, key, cache, seed, progress)


@contextmanager
def pinned(key: Key) -> Iterator[None]:
    """Hold the process still while blocks are timed: threads, core, no gradients, denormals are zero.

    With one thread it stays on the core that is idlest now, where the operating system can do that. All is
    put back at the end, but torch's denormal mode, which cannot be asked for, ends as off.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(key.threads)
        stack.callback(torch.set_flush_denormal, False)
        torch.set_flush_denormal(True)
        if key.threads == 1 and hasattr(os, "sched_setaffinity"):
            cores = os.sched_getaffinity(0)
            stack.callback(os.sched_setaffinity, 0, cores)
            os.sched_setaffinity(0, {idlest_core(cores)})
        yield


def idlest_core(cores: set[int], watch_s: float = 0.05, stat: Path = Path("/proc/stat")) -> int:
    """Which of `cores` had most idle time while it was watched; the highest number where nothing tells."""
    before = _idle_ticks(stat)
    time.sleep(watch_s)
    after = _idle_ticks(stat)
    return max(cores, key=lambda core: (after.get(core, 0) - before.get(core, 0), core))


def _idle_ticks(stat: Path) -> dict[int, int]:
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
    except OSError:
        return {}
    return {int(line[0][3:]): int(line[4]) for line in lines if line and line[0][:3] == "cpu" and line[0][3:]}
