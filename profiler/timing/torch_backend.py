"""Prepare blocks for timing in eager torch: wall clock on the CPU, device events on CUDA, or torchprof."""

from collections.abc import Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import torch

from jmsnas.blocks import example_input
from jmsnas.errors import MeasurementError
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.profiler.timing.paired_timing import Call, TimedLoop, wall_clock
from jmsnas.progress import Progress, no_progress
from jmsnas.space import BlockOrPart


def prepare(
    subjects: Sequence[BlockOrPart],
    key: RuntimeKey,
    cache: Path,
    seed: int = 0,
    progress: Progress = no_progress,
) -> list[TimedLoop]:
    """Prepare blocks for timing in eager torch; `cache` is not used. See `backends.prepare`."""
    if key.processor == "cuda" and not torch.cuda.is_available():
        raise MeasurementError(
            f"cannot measure {key.label}: torch {torch.__version__} finds no CUDA device here. "
            "Check nvidia-smi, or measure the processor: --processor cpu"
        )
    return [_timed(subject, key, seed) for subject in subjects]


def _timed(subject: BlockOrPart, key: RuntimeKey, seed: int) -> TimedLoop:
    layout = torch.channels_last if key.layout == "channels_last" else torch.contiguous_format
    dtype = getattr(torch, key.dtype)
    module = seeded_module(subject, seed).to(key.processor, dtype).to(memory_format=layout)
    x_NCHW = example_input(subject, key.batch, seed)
    x_NCHW = x_NCHW.to(device=key.processor, dtype=dtype, memory_format=layout)
    if key.timer == "torchprof":
        from jmsnas.profiler.timing.torchprof_backend import layer_latency_s

        return lambda loops: sum(sum(layer_latency_s(module, x_NCHW).values()) for _ in range(loops))
    call = partial(module, x_NCHW)
    return device_events(call) if key.processor == "cuda" else wall_clock(call)


def device_events(call: Call) -> TimedLoop:
    """Time CUDA work with device events, and wait for its end.

    A host clock would stop when the work is queued, not when it is done.
    """

    def timed(loops: int) -> float:
        start, end = _event(), _event()
        start.record()
        for _ in repeat(None, loops):
            call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3

    return timed


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
