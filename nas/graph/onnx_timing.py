"""Prepare the units of an ONNX file for timing in onnxruntime, each as a model of its own."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx.utils import Extractor

from jmsnas.errors import MeasurementError
from jmsnas.nas.graph.from_onnx import load_onnx, onnx_units, raw_input
from jmsnas.profiler.timing.paired_timing import Call


def onnx_calls(path: Path, threads: int, seed: int) -> list[Call]:
    """Prepare a call of every unit of an ONNX file, and of the whole file as the last.

    Raises InputError when the file cannot be split (see from_onnx.py), MeasurementError when onnxruntime
    refuses a unit.
    """
    model, (_, nodes, _) = load_onnx(path), onnx_units(path)
    _embed(model, path)
    taken_by = {name: n for n, own in enumerate(nodes) for node in own for name in node.output}
    results = {output.name for output in model.graph.output}
    raw = raw_input(model, path).name
    # An extractor needs a shape for each name it cuts at; `load_onnx` has inferred them.
    extractor, generator = Extractor(model), np.random.default_rng(seed)
    calls = []
    for n, own in enumerate(nodes):
        made = {name for node in own for name in node.output}
        taken = [name for node in own for name in node.input if name in taken_by or name == raw]
        inputs = [name for name in taken if name not in made]
        outside = {name for k, other in enumerate(nodes) if k != n for node in other for name in node.input}
        outputs = sorted(made & (outside | results))
        part = extractor.extract_model(list(dict.fromkeys(inputs)), outputs)
        calls.append(_call(part, threads, generator, f"unit {n + 1} of {path}"))
    return [*calls, _call(model, threads, generator, str(path))]


def _embed(model: onnx.ModelProto, path: Path) -> None:
    """Load external weights from the folder of the file; onnx refuses paths outside of it."""
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx raises several kinds
        raise MeasurementError(f"cannot read the weights of {path}: {error}") from error


def _call(model: onnx.ModelProto, threads: int, generator: np.random.Generator, what: str) -> Call:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        for given in session.get_inputs():
            sizes = [size if isinstance(size, int) else 1 for size in given.shape]
            array = generator.standard_normal(sizes).astype(np.float32)
            binding.bind_ortvalue_input(given.name, ort.OrtValue.ortvalue_from_numpy(array, "cpu", 0))
        for output in session.get_outputs():
            binding.bind_output(output.name, "cpu")
        call = partial(session.run_with_iobinding, binding)
        call()
    except Exception as error:  # onnxruntime's own classes share no base
        reason = str(error).partition("\n")[0]
        raise MeasurementError(f"onnxruntime refuses {what}: {reason}") from error
    return call
