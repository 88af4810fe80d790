"""Prepare blocks for timing in onnxruntime, on the CPU or on CUDA."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from jmsnas.blocks import example_input
from jmsnas.errors import MeasurementError
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.timing.onnx_export import export_to_onnx
from jmsnas.profiler.timing.onnx_session import PROVIDERS, open_session, timed_session
from jmsnas.profiler.timing.paired_timing import TimedLoop
from jmsnas.progress import Progress, no_progress
from jmsnas.space import BlockOrPart


def prepare(
    subjects: Sequence[BlockOrPart],
    key: RuntimeKey,
    cache: Path,
    seed: int = 0,
    progress: Progress = no_progress,
) -> list[TimedLoop]:
    """Prepare blocks for timing in onnxruntime; see `backends.prepare`."""
    if PROVIDERS[key.processor] not in ort.get_available_providers():
        raise MeasurementError(
            f"cannot measure {key.label}: onnxruntime {ort.__version__} as installed has "
            f"{', '.join(ort.get_available_providers())}, not {PROVIDERS[key.processor]}. Install "
            "onnxruntime-gpu, or measure the processor: --processor cpu"
        )
    models = export_to_onnx(subjects, key.batch, cache, seed, progress, key.dtype)
    return [_timed(subject, model, key, cache, seed) for subject, model in zip(subjects, models, strict=True)]


def _timed(subject: BlockOrPart, model: bytes, key: RuntimeKey, cache: Path, seed: int) -> TimedLoop:
    try:
        session = open_session(model, key.threads, key.processor)
    except Exception as error:  # onnxruntime's exceptions have no common base class
        reason = str(error).partition("\n")[0]
        raise MeasurementError(
            f"onnxruntime refuses {subject}: {reason}. Delete {cache} and run the same command again"
        ) from error
    return timed_session(session, example_input(subject, key.batch, seed).numpy(), key.processor)
