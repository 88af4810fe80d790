"""Open onnxruntime sessions, and time them; used by the profiler and by agents, without torch."""

from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from jmsnas.errors import MeasurementError
from jmsnas.profiler.timing.paired_timing import TimedLoop, wall_clock

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# onnxruntime logs an error to stderr before it raises it; the exception is enough.
_FATAL = 4


def open_session(model: bytes, threads: int, processor: str = "cpu", flush_denormals: bool = True) -> Any:
    """Open an onnxruntime session that logs nothing; onnxruntime's own exceptions are passed on.

    Raises MeasurementError where onnxruntime falls back to another execution provider than the processor's.
    `flush_denormals` also sets the calling thread to read and write denormal numbers as 0 from then on.
    """
    ort.set_default_logger_severity(_FATAL)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL
    # Every session has its own threads: those of one must not spin while another is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.set_denormal_as_zero", "1" if flush_denormals else "0")
    session = ort.InferenceSession(model, options, providers=[PROVIDERS[processor]], enable_fallback=False)
    if (used := session.get_providers()[0]) != PROVIDERS[processor]:
        raise MeasurementError(
            f"onnxruntime {ort.__version__} runs the model by {used}, not {PROVIDERS[processor]}: install "
            "onnxruntime-gpu and the CUDA libraries of its release, or measure the CPU: --processor cpu"
        )
    return session


def timed_session(session: Any, x: NDArray[Any], processor: str = "cpu") -> TimedLoop:
    """Prepare a session for timing, with its input and output bound once.

    `run` on arrays adds 4 to 6 us a call for copies, a third to a half of the latency of a small block; a
    part of many blocks pays that once.
    """
    inputs = x.astype({"tensor(float16)": "float16"}.get(session.get_inputs()[0].type, "float32"))
    outputs = np.zeros(session.get_outputs()[0].shape, inputs.dtype)
    binding = session.io_binding()
    for bind, value, array in (
        (binding.bind_ortvalue_input, session.get_inputs()[0], inputs),
        (binding.bind_ortvalue_output, session.get_outputs()[0], outputs),
    ):
        bind(value.name, ort.OrtValue.ortvalue_from_numpy(array, processor, 0))
    # On CUDA a run waits for the device, so the wall clock is valid there too.
    return wall_clock(partial(session.run_with_iobinding, binding))
