"""Check before measuring that this host has the threads and the memory that a profile needs."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from jmsnas.cost import cost, operators
from jmsnas.errors import InputError
from jmsnas.profiler.host.environment import meminfo_bytes
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.space import Block, BlockOrPart

_NUMBER_BYTES = {"float32": 4, "float16": 2}


def check_host_capacity(
    subjects: Sequence[BlockOrPart], keys: Sequence[RuntimeKey], root: Path = Path("/")
) -> None:
    """Check that the host has a core for every thread, and memory for all blocks at once.

    GPU memory is not checked: a block that does not fit fails, and the others are measured. Raises InputError
    when a key needs more than the host has. `root` is the folder that holds `proc`.
    """
    cores, free_bytes = usable_cores(), meminfo_bytes("MemAvailable", root)
    for key in keys:
        if key.threads > cores:
            raise InputError(
                f"cannot measure {key.threads} threads on the {cores} cores this process may use: "
                f"expected --threads of at most {cores}"
            )
        needed_bytes = required_bytes(subjects, key) if key.processor == "cpu" else 0
        if free_bytes is not None and needed_bytes > free_bytes:
            raise InputError(
                f"a batch of {key.batch} needs {needed_bytes / 1e9:.1f} GB for {len(subjects)} blocks, and "
                f"this host has {free_bytes / 1e9:.1f} GB free: expected less. Give a smaller --batch"
            )


def usable_cores() -> int:
    """Return the number of cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def required_bytes(subjects: Sequence[BlockOrPart], key: RuntimeKey) -> int:
    """Return the bytes of all parameters, inputs and outputs, and of the largest operator's tensors."""
    numbers, largest = 0, 0
    for subject in subjects:
        blocks = (subject,) if isinstance(subject, Block) else subject.blocks
        ends = math.prod(blocks[0].layer.input_shape) + blocks[-1].layer.output_elements
        numbers += cost(subject).parameters + key.batch * ends
        largest = max([largest, *(op.read + op.written for op in operators(subject))])
    return _NUMBER_BYTES[key.dtype] * (numbers + key.batch * largest)
