"""What runs a block. docs/runtimes.md tells how to add one: a file with `prepare`, and a line below.

A block becomes a `TimedLoop` under a key (run time, threads, batch, dtype, processor, layout, timer): a
function
that runs it so many times in a row and gives the seconds that took.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from jmsnas.profiler.host.affinity import on_idlest_cores
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.timing import onnxruntime_backend as run_onnxruntime
from jmsnas.profiler.timing import torch_backend as run_torch
from jmsnas.profiler.timing.paired_timing import TimedLoop
from jmsnas.progress import Progress, no_progress
from jmsnas.space import BlockOrPart

_PREPARE = {"onnxruntime": run_onnxruntime.prepare, "torch": run_torch.prepare}


def prepare(
    subjects: Sequence[BlockOrPart],
    key: RuntimeKey,
    cache: Path,
    seed: int = 0,
    progress: Progress = no_progress,
) -> list[TimedLoop]:
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
def pinned(key: RuntimeKey) -> Iterator[None]:
    """Hold the process still while blocks are timed: threads, cores, no gradients, denormals are zero.

    It stays on as many cores as the key has threads, those that are idlest now, where the operating system
    can do that. All is put back at the end, but torch's denormal mode, which none can ask for, ends as off.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(key.threads)
        stack.callback(torch.set_flush_denormal, False)
        torch.set_flush_denormal(True)
        stack.enter_context(on_idlest_cores(key.threads))
        yield
