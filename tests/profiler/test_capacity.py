from pathlib import Path

import pytest
from profiling_jobs import BLOCKS, PART
from synthetic_hosts import write

from jmsnas.cost import cost
from jmsnas.errors import InputError
from jmsnas.profiler.capacity import check_host_capacity, required_bytes, usable_cores
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.space import Block, Candidate, Layer

BLOCK = Block(Candidate(3, 3), Layer(8, 8, 1, 4, 4))


def test_bytes_of_what_is_held_ready() -> None:
    # Expand 8->24 and its normalisation 192 + 48, depthwise 24 * 9 + 48, project 24 * 8 + 16: 712 parameters.
    # In and out 8 * 16 each; the widest operators are those on 24 channels: 384 numbers read, 384 written.
    assert required_bytes([BLOCK], RuntimeKey("torch")) == 4 * (712 + 256 + 768)
    assert required_bytes([BLOCK], RuntimeKey("torch", batch=10)) == 4 * (712 + 10 * (256 + 768))
    half = RuntimeKey("torch", dtype="float16", processor="cuda")
    assert required_bytes([BLOCK, BLOCK], half) == 2 * (2 * (712 + 256) + 768)
    # A part holds its ends alone: 1 x 8 x 8 in, 3 out.
    once, twice = (required_bytes(parts, RuntimeKey()) for parts in ([PART], [PART, PART]))
    assert twice - once == 4 * (cost(PART).parameters + 64 + 3)


def test_threads_beyond_the_cores() -> None:
    check_host_capacity(BLOCKS, [RuntimeKey(threads=usable_cores())])
    with pytest.raises(InputError, match=r"cannot measure 9999 threads on the \d+ cores .* at most \d+$"):
        check_host_capacity(BLOCKS, [RuntimeKey(), RuntimeKey(threads=9999)])


def test_batch_beyond_memory(tmp_path: Path) -> None:
    # 4 bytes * (712 + batch * 1024): 1 GB holds a batch of 200,000 and not one of 300,000.
    write(tmp_path, {"proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 1000000 kB"})
    check_host_capacity([BLOCK], [RuntimeKey("torch", batch=200_000)], tmp_path)
    with pytest.raises(InputError, match=r"a batch of 300000 needs 1.2 GB for 1 blocks.* has 1.0 GB free"):
        check_host_capacity([BLOCK], [RuntimeKey("torch", batch=300_000)], tmp_path)
    check_host_capacity([BLOCK], [RuntimeKey("torch", batch=300_000, processor="cuda")], tmp_path)


def test_host_that_does_not_tell_its_memory(tmp_path: Path) -> None:
    check_host_capacity([BLOCK], [RuntimeKey("torch", batch=10**9)], tmp_path)
    write(tmp_path, {"proc/meminfo": "MemTotal: 4000000 kB"})
    check_host_capacity([BLOCK], [RuntimeKey("torch", batch=10**9)], tmp_path)
