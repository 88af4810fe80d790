"""onnxruntime as a run time: on the CPU, or on CUDA where the installed build has it.

Input and output are bound once: `run` on arrays adds 4 to 6 us a call for copies that a part of many
blocks pays once, which is a third to a half of the time of a small block.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from jmsnas.blocks import example_input
from jmsnas.errors import MeasurementError
from jmsnas.profiler.export import onnx_models
from jmsnas.profiler.table import Key
from jmsnas.profiler.timing import Timed, wall_clock
from jmsnas.progress import Progress, silent
from jmsnas.space import Subject

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def prepare(
    subjects: Sequence[Subject], key: Key, cache: Path, seed: int = 0, progress: Progress = silent
) -> list[Timed]:
    """Make blocks ready to be timed in onnxruntime. See `runtimes.prepare`.

    Raises
    ------
    MeasurementError
        Where the installed build lacks the processor, or onnxruntime refuses a model.
    StorageError
        When the cache cannot be written.
    """
    if _PROVIDERS[key.processor] not in ort.get_available_providers():
        raise MeasurementError(
            f"cannot measure {key.label}: onnxruntime {ort.__version__} as installed has "
            f"{', '.join(ort.get_available_providers())}, not {_PROVIDERS[key.processor]}. Install "
            "onnxruntime-gpu, or leave out --processor cuda"
        )
    models = onnx_models(subjects, key.batch, cache, seed, progress, key.dtype)
    return [_timed(subject, model, key, cache, seed) for subject, model in zip(subjects, models, strict=True)]


def _timed(subject: Subject, model: bytes, key: Key, cache: Path, seed: int) -> Timed:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = key.threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Every session has its own threads: those of one must not spin while another is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    try:
        session = ort.InferenceSession(
            model, options, providers=[_PROVIDERS[key.processor]], enable_fallback=False
        )
    except Exception as error:  # onnxruntime's own classes share no base
        reason = str(error).partition("\n")[0]
        raise MeasurementError(
            f"onnxruntime refuses {subject}: {reason}. Delete {cache} and run the same command again"
        ) from error
    entering = example_input(subject, key.batch, seed).numpy().astype(key.dtype)
    leaving = np.zeros(session.get_outputs()[0].shape, key.dtype)
    binding = session.io_binding()
    for bind, value, array in (
        (binding.bind_ortvalue_input, session.get_inputs()[0], entering),
        (binding.bind_ortvalue_output, session.get_outputs()[0], leaving),
    ):
        bind(value.name, ort.OrtValue.ortvalue_from_numpy(array, key.processor, 0))
    # On CUDA a run ends with the device waited for, so the wall clock is right there too.
    return wall_clock(partial(session.run_with_iobinding, binding))
