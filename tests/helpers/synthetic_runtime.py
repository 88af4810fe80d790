"""A run time that runs nothing, put in the place of torch and onnxruntime: a process with it starts at once.

Import it first, and never in the process that runs the tests.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from jmsnas.profiler.table.latency_table import Key
from jmsnas.progress import Progress, silent
from jmsnas.space import Subject


def prepare(
    subjects: Sequence[Subject], key: Key, cache: Path, seed: int = 0, progress: Progress = silent
) -> list[Callable[[int], float]]:
    """A call takes 0.1 ms, says the clock."""
    return [lambda loops: loops * 1e-4 for _ in subjects]


@contextmanager
def pinned(key: Key) -> Iterator[None]:
    yield


runtimes = ModuleType("jmsnas.profiler.timing.backends")
runtimes.__dict__.update(prepare=prepare, pinned=pinned)
sys.modules["jmsnas.profiler.timing.backends"] = runtimes
