"""An onnxruntime session as it is timed on the bench and as it serves in the field. No torch here."""

from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from jmsnas.profiler.timing.paired_timing import TimedLoop, wall_clock

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(model: bytes, threads: int, processor: str = "cpu") -> Any:
    """Open a session on an ONNX file's bytes; onnxruntime's own errors pass."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Every session has its own threads: those of one must not spin while another is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return ort.InferenceSession(model, options, providers=[PROVIDERS[processor]], enable_fallback=False)


def timed_session(session: Any, x: NDArray[Any], processor: str = "cpu") -> TimedLoop:
    """Make a session ready to be timed, its input and output bound once.

    `run` on arrays adds 4 to 6 us a call for copies that a part of many blocks pays once.
    """
    entering = x.astype({"tensor(float16)": "float16"}.get(session.get_inputs()[0].type, "float32"))
    leaving = np.zeros(session.get_outputs()[0].shape, entering.dtype)
    binding = session.io_binding()
    for bind, value, array in (
        (binding.bind_ortvalue_input, session.get_inputs()[0], entering),
        (binding.bind_ortvalue_output, session.get_outputs()[0], leaving),
    ):
        bind(value.name, ort.OrtValue.ortvalue_from_numpy(array, processor, 0))
    # On CUDA a run ends with the device waited for, so the wall clock is right there too.
    return wall_clock(partial(session.run_with_iobinding, binding))
