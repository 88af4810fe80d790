"""Prepare the units of an ONNX file for timing in onnxruntime, each as a model of its own."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ValueInfoProto
from onnx.utils import Extractor

from jmsnas.errors import MeasurementError
from jmsnas.nas.graph.from_onnx import onnx_units
from jmsnas.nas.graph.onnx_file import reason_of
from jmsnas.nas.graph.onnx_preparation import PreparedGraph, prepare_onnx, runnable_model
from jmsnas.profiler.timing.onnx_session import open_session
from jmsnas.profiler.timing.paired_timing import Call

_MAX_INPUT_ELEMENTS = 1 << 28


def onnx_calls(path: Path, threads: int, seed: int) -> list[Call]:
    """Prepare a call of every unit of an ONNX file, and of the whole file as the last.

    Every unit gets what the units before it computed from one random input. Raises InputError when the file
    cannot be split (see from_onnx.py), MeasurementError when onnxruntime cannot run the file or a unit.
    """
    graph = prepare_onnx(path)
    _, nodes = onnx_units(graph)
    model = _runnable(graph)
    made_by = {name: n for n, own in enumerate(nodes) for node in own for name in node.output}
    read = ((n, name) for n, own in enumerate(nodes) for node in own for name in node.input)
    sent = {name for n, name in read if made_by.get(name, n) != n}
    sent |= {output.name for output in model.graph.output}
    values = {graph.raw: random_input(model.graph.input[0], seed)}
    whole, _ = _call(model, threads, values, str(path))
    # An extractor needs a shape for each name it cuts at; `prepare_onnx` has inferred them.
    extractor = Extractor(model)
    calls = []
    for n, own in enumerate(nodes):
        taken = [
            name for node in own for name in node.input if name == graph.raw or made_by.get(name, n) != n
        ]
        outputs = sorted(sent.intersection(name for node in own for name in node.output))
        part = extractor.extract_model(list(dict.fromkeys(taken)), outputs)
        call, computed = _call(part, threads, values, f"unit {n + 1} of {path}")
        values |= computed
        calls.append(call)
    return [*calls, whole]


def random_input(given: ValueInfoProto, seed: int) -> Any:
    """Make a random value of the shape and dtype that an ONNX file declares for its input.

    Integers wider than 8 bits are 0, a valid index into any table. Raises MeasurementError for an input that
    is larger than can be fed, or has a dtype that is not a number.
    """
    element_type = given.type.tensor_type.elem_type
    shape = [size.dim_value or 1 for size in given.type.tensor_type.shape.dim]
    name = onnx.TensorProto.DataType.Name(element_type).lower()
    if math.prod(shape) > _MAX_INPUT_ELEMENTS:
        raise MeasurementError(
            f"input {given.name} has {math.prod(shape)} elements: expected at most {_MAX_INPUT_ELEMENTS}"
        )
    generator, dtype = np.random.default_rng(seed), onnx.helper.tensor_dtype_to_np_dtype(element_type)
    if name in ("float", "double", "float16", "bfloat16"):
        array = generator.standard_normal(shape).astype(dtype)
    elif name in ("bool", "int8", "uint8"):
        array = generator.integers(0, 2 if name == "bool" else 128, shape).astype(dtype)
    elif name in ("int16", "int32", "int64", "uint16", "uint32", "uint64"):
        array = np.zeros(shape, dtype)
    else:
        raise MeasurementError(
            f"input {given.name} is of dtype {name}: expected a float16, bfloat16, float32, float64, integer "
            "or bool input. Convert the file to one of these"
        )
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, element_type)


def _runnable(graph: PreparedGraph) -> onnx.ModelProto:
    try:
        return runnable_model(graph)
    except Exception as error:  # onnx raises several kinds
        raise MeasurementError(f"cannot read the weights of {graph.path}: {reason_of(error)}") from error


def _call(
    model: onnx.ModelProto, threads: int, values: Mapping[str, Any], what: str
) -> tuple[Call, dict[str, Any]]:
    """Bind the inputs of a model to these values; returns its call, and the outputs that it computed."""
    try:
        session = open_session(model.SerializeToString(), threads, flush_denormals=False)
        binding, names = session.io_binding(), [output.name for output in session.get_outputs()]
        for given in session.get_inputs():
            binding.bind_ortvalue_input(given.name, values[given.name])
        for name in names:
            binding.bind_output(name, "cpu")
        call = partial(session.run_with_iobinding, binding)
        call()
        computed = dict(zip(names, binding.get_outputs(), strict=True))
    except Exception as error:  # onnxruntime's own classes share no base
        reason = str(error).partition("\n")[0]
        raise MeasurementError(f"onnxruntime cannot run {what}: {reason}") from error
    return call, computed
