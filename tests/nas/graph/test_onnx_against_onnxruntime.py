"""Outputs of every unit of an ONNX file against the arrays that onnxruntime makes of them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from onnx_files import NODE, STANDARD, numbers, save_onnx, scalar, weight

from jmsnas.nas.graph.from_onnx import model_from_onnx, onnx_units
from jmsnas.nas.graph.onnx_preparation import prepare_onnx, runnable_model
from jmsnas.nas.graph.onnx_timing import random_input

CASES = Path(__file__).parents[2] / "cases" / "onnx"


def refuse_differences(path: Path) -> None:
    """Run a file as it is, and its prepared graph with every tensor that is read elsewhere as an output."""
    graph = prepare_onnx(path)
    units, nodes = onnx_units(graph)
    model = runnable_model(graph)
    (result,) = (output.name for output in model.graph.output)
    names = {tensor.name for unit in units for tensor in unit.outputs}
    assert result in {name for own in nodes for node in own for name in node.output}
    for name in sorted(names - {result}):
        model.graph.output.add().CopyFrom(
            helper.make_tensor_value_info(name, graph.tensors[name].dtype, None)
        )
    given = random_input(model.graph.input[0], 0)
    assert given.numpy().nbytes == model_from_onnx(path).raw_input.size_bytes
    arrays = _run(model, given)
    for unit in units:
        computed = [arrays[tensor.name] for tensor in unit.outputs]
        assert unit.output_bytes == sum(array.nbytes for array in computed)
        assert [tensor.shape for tensor in unit.outputs] == [array.shape for array in computed]
        assert [tensor.dtype for tensor in unit.outputs] == [array.dtype.name for array in computed]
    (expected,) = _run(onnx.load(str(path)), given).values()
    np.testing.assert_allclose(arrays[result], expected, rtol=1e-4, atol=1e-6)


def _run(model: onnx.ModelProto, given: ort.OrtValue) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    made = session.run_with_ort_values(names, {session.get_inputs()[0].name: given})
    return {name: value.numpy() for name, value in zip(names, made, strict=True)}


@pytest.mark.parametrize("path", sorted(CASES.glob("*.onnx")), ids=lambda path: path.stem)
def test_the_bytes_at_every_cut_of_a_file_are_those_of_onnxruntime(path: Path) -> None:
    refuse_differences(path)


CAST, HALF = (NODE("Cast", ["a"], ["b"], to=to) for to in (6, 10))
BRANCH = helper.make_graph(
    [NODE("Relu", ["x"], ["z"])], "b", [], [helper.make_tensor_value_info("z", 1, None)]
)
DOUBLE = helper.make_function("f", "Double", ["p"], ["q"], [NODE("Add", ["p", "p"], ["q"])], [STANDARD])
NETS = {
    "branches_of_a_split": [
        NODE("Split", ["x"], ["a", "b"], axis=1),
        NODE("Relu", ["a"], ["c"]),
        NODE("Tanh", ["b"], ["d"]),
        NODE("MatMul", ["c", "w"], ["e"]),
        NODE("Add", ["e", "d"], ["y"]),
    ],
    "half_of_a_split": [NODE("Split", ["x"], ["a", "b"], axis=1), NODE("MatMul", ["b", "w"], ["y"])],
    "cast_beside_its_input": [
        NODE("Relu", ["x"], ["a"]),
        CAST,
        NODE("Cast", ["b"], ["c"], to=1),
        NODE("ReduceMax", ["a"], ["d"], axes=[1]),
        NODE("Div", ["c", "d"], ["y"]),
    ],
    "half_precision_within": [
        NODE("Relu", ["x"], ["a"]),
        HALF,
        NODE("GlobalAveragePool", ["b"], ["c"]),
        NODE("Cast", ["c"], ["y"], to=1),
    ],
    "view_beside_its_input": [
        NODE("Relu", ["x"], ["a"]),
        NODE("Reshape", ["a", "s"], ["b"]),
        NODE("ReduceMax", ["b"], ["c"], keepdims=0),
        NODE("Add", ["a", "c"], ["y"]),
    ],
    "shape_arithmetic": [
        NODE("Relu", ["x"], ["a"]),
        NODE("Shape", ["a"], ["h"]),
        NODE("Gather", ["h", "one"], ["i"]),
        NODE("Range", ["zero", "i", "one"], ["r"]),
        NODE("Cast", ["r"], ["f"], to=1),
        NODE("Add", ["a", "f"], ["y"]),
    ],
    "constant_condition": [
        NODE("If", ["yes"], ["a"], then_branch=BRANCH, else_branch=BRANCH),
        NODE("ReduceMean", ["a"], ["y"], axes=[1]),
    ],
    "function": [NODE("Double", ["x"], ["a"], domain="f"), NODE("Double", ["a"], ["y"], domain="f")],
    "dropout": [NODE("Dropout", ["x"], ["a", "m"]), NODE("LeakyRelu", ["a"], ["y"])],
    "recurrent": [
        NODE("Unsqueeze", ["x", "zeros"], ["a"]),
        NODE("GRU", ["a", "gw", "gr"], ["", "y"], hidden_size=2),
    ],
    "first_factor_is_constant": [
        NODE("Reshape", ["x", "s"], ["a"]),
        NODE("Transpose", ["a"], ["b"]),
        NODE("MatMul", ["w", "b"], ["y"]),
    ],
}
WEIGHTS = (
    weight("w", 4, 4), weight("gw", 1, 6, 8), weight("gr", 1, 6, 2), numbers("s", 2, 4),
    numbers("zeros", 0), scalar("one", 1), scalar("zero", 0), scalar("yes", True),
)  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_the_bytes_at_every_cut_of_a_net_are_those_of_onnxruntime(name: str, tmp_path: Path) -> None:
    nodes, shape = NETS[name], [1, 8, 1, 1] if name == "half_precision_within" else [1, 8]
    opsets = [STANDARD, helper.make_opsetid("f", 1)]
    read = {value for node in nodes for value in node.input}
    weights = [tensor for tensor in WEIGHTS if tensor.name in read]
    refuse_differences(
        save_onnx(tmp_path / "net.onnx", nodes, shape, *weights, opsets=opsets, functions=[DOUBLE])
    )
