"""Write small ONNX files, of input x and output y."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NODE = helper.make_node
STANDARD = helper.make_opsetid("", 17)


def weight(name: str, *sizes: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(0).standard_normal(sizes).astype(np.float32), name)


def numbers(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def scalar(name: str, value: float | bool) -> onnx.TensorProto:
    dtype = np.bool_ if isinstance(value, bool) else np.int64 if isinstance(value, int) else np.float32
    return numpy_helper.from_array(np.array(value, dtype), name)


def save_onnx(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str] | None,
    *weights: onnx.TensorProto,
    opsets: Sequence[onnx.OperatorSetIdProto] = (STANDARD,),
    functions: Sequence[onnx.FunctionProto] = (),
) -> Path:
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)]
        for name, sizes in (("x", shape), ("y", None))
    ]
    graph = helper.make_graph(nodes, "net", *ends, list(weights))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)
    onnx.save(model, str(path))
    return path
