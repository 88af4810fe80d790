"""What runs a block: onnxruntime, or torch as it is (eager). Both on the CPU.

A block becomes a call without arguments under a key (run time, threads, batch, dtype). In onnxruntime the
input and the output are bound once: `run` on arrays adds 4 to 6 us a call for copies that a part of many
blocks pays once, which is a third to a half of the time of a small block.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch

from jmsnas.blocks import example_input
from jmsnas.errors import InputError, MeasurementError
from jmsnas.profiler.export import onnx_models, seeded_module
from jmsnas.profiler.table import Key
from jmsnas.profiler.timing import Call
from jmsnas.progress import Progress, silent
from jmsnas.space import Block


def prepare(
    blocks: Sequence[Block], key: Key, cache: Path, seed: int = 0, progress: Progress = silent
) -> list[Call]:
    """Make each block ready to run under a key: a call without arguments.

    Run the calls inside `pinned(key)`.

    Parameters
    ----------
    blocks, key
        What to run, and how.
    cache
        Folder of exported models (onnxruntime).
    seed
        Seed of weights and inputs.
    progress
        Called with the number of blocks that are ready.

    Raises
    ------
    InputError
        For a dtype other than float32.
    MeasurementError
        When onnxruntime refuses a model.
    StorageError
        When the cache cannot be written.
    """
    if key.dtype != "float32":
        raise InputError(
            f"cannot measure in {key.dtype}: expected float32, the one dtype blocks are built in"
        )
    if key.runtime == "torch":
        return [_torch_call(block, key, seed) for block in blocks]
    models = onnx_models(blocks, key.batch, cache, seed, progress)
    return [_onnx_call(block, model, key, cache, seed) for block, model in zip(blocks, models, strict=True)]


def _torch_call(block: Block, key: Key, seed: int) -> Call:
    return partial(seeded_module(block, seed), example_input(block, key.batch, seed))


def _onnx_call(block: Block, model: bytes, key: Key, cache: Path, seed: int) -> Call:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = key.threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Every session has its own threads: those of one must not spin while another is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    try:
        session = ort.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except Exception as error:  # onnxruntime's own classes share no base
        reason = str(error).partition("\n")[0]
        raise MeasurementError(
            f"onnxruntime refuses {block}: {reason}. Delete {cache} and run the same command again"
        ) from error
    output = torch.zeros(key.batch, *block.layer.output_shape)
    binding = session.io_binding()
    for bind, value, tensor in (
        (binding.bind_ortvalue_input, session.get_inputs()[0], example_input(block, key.batch, seed)),
        (binding.bind_ortvalue_output, session.get_outputs()[0], output),
    ):
        bind(value.name, ort.OrtValue.ortvalue_from_numpy(tensor.numpy()))
    return partial(session.run_with_iobinding, binding)


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
