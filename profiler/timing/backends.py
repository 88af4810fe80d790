"""The runtimes that can time a block; docs/runtimes.md describes how to add one.

A block becomes a `TimedLoop` under a runtime key (runtime, threads, batch, dtype, processor, layout, timer):
a function that runs it a number of times in a row and returns the seconds of all runs together.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from jmsnas.profiler.host.affinity import on_idlest_cores
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.timing import onnxruntime_backend, torch_backend
from jmsnas.profiler.timing.paired_timing import TimedLoop
from jmsnas.progress import Progress, no_progress
from jmsnas.space import BlockOrPart

_PREPARE = {"onnxruntime": onnxruntime_backend.prepare, "torch": torch_backend.prepare}


def prepare(
    subjects: Sequence[BlockOrPart],
    key: RuntimeKey,
    cache: Path,
    seed: int = 0,
    progress: Progress = no_progress,
) -> list[TimedLoop]:
    """Prepare blocks or parts for timing under a runtime key; run the result inside `pinned(key)`.

    Parameters
    ----------
    subjects, key
        Blocks and parts to time; runtime and its options.
    cache, seed
        Folder of exported models (onnxruntime); seed of weights and inputs.
    progress
        Called with the number of blocks prepared.

    Raises
    ------
    MeasurementError, StorageError
        When the runtime is not available on this host, or refuses a block; when the cache cannot be written.
    """
    return _PREPARE[key.runtime](subjects, key, cache, seed, progress)


@contextmanager
def pinned(key: RuntimeKey) -> Iterator[None]:
    """Set up this process for timing: threads, cores, no gradients, denormals flushed to zero.

    The process is bound to as many cores as the key has threads, the idlest ones, where the operating system
    supports it. Everything is restored at the end, except torch's denormal mode, which cannot be queried and
    ends as off.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(key.threads)
        stack.callback(torch.set_flush_denormal, False)
        torch.set_flush_denormal(True)
        stack.enter_context(on_idlest_cores(key.threads))
        yield
