from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from jmsnas.errors import InputError
from jmsnas.nas.graph.from_onnx import model_from_onnx
from jmsnas.nas.graph.onnx_timing import onnx_calls


def weight(name: str, *sizes: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(0).standard_normal(sizes).astype(np.float32), name)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    shape: list[int | str],
    out: list[int | str],
    *weights: onnx.TensorProto,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        list(weights),
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def small(path: Path, shape: list[int | str]) -> Path:
    """A convolution and ReLU, a depthwise and a pointwise branch, their sum, a pooling, logits."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1], group=8),
        helper.make_node("Conv", ["b", "w3"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["e"]),
        helper.make_node("GlobalAveragePool", ["e"], ["f"]),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("Gemm", ["g", "w4", "b4"], ["y"], transB=1),
    ]
    weights = (weight("w1", 8, 3, 3, 3), weight("w2", 8, 1, 3, 3), weight("w3", 8, 8, 1, 1))
    return save(path, nodes, shape, [1, 10], *weights, weight("w4", 10, 8), weight("b4", 10))


@pytest.mark.parametrize("batch", [1, "N"])
def test_units_by_hand(tmp_path: Path, batch: int | str) -> None:
    model = model_from_onnx(small(tmp_path / "small.onnx", [batch, 3, 16, 16]))
    assert [unit.inputs for unit in model.units] == [(0,), (1,), (1,), (2, 3), (4,), (5,)]
    # 256 pixels: 8 x 27, 8 x 9 and 8 x 8 MACs each; then 80.
    assert [sum(op.macs for op in unit.operators) for unit in model.units] == [55296, 18432, 16384, 0, 0, 80]
    kinds = [unit.operators[0].kind for unit in model.units]
    assert kinds == ["conv", "depthwise", "pointwise", "add", "pool", "dense"]
    assert model.parameters == 216 + 72 + 64 + 90 and model.units[0].name == "conv 3x3 3->8 + relu"
    assert model.input_shape == (3, 16, 16)


def test_units_run_one_by_one(tmp_path: Path) -> None:
    path = small(tmp_path / "small.onnx", [1, 3, 16, 16])
    calls = onnx_calls(path, 1, 0)
    assert len(calls) == 7
    for call in calls:
        call()


def test_what_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z"])],
        "b",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])],
    )
    flow = [helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)]
    for nodes, shape, words in (
        (flow, [1, 4], r"node 'y' \(If\) is control flow: a split needs a fixed graph"),
        ([helper.make_node("Relu", ["x"], ["y"])], [1, "width"], "the shape of input 'x' is not fixed"),
        (
            [helper.make_node("NonZero", ["x"], ["y"])],
            [1, 4],
            r"node 'y' \(NonZero\) has an output of unknown",
        ),
    ):
        with pytest.raises(InputError, match=words) as caught:
            model_from_onnx(save(path, nodes, shape, [1, "?"]))
        assert "\n" not in str(caught.value)
    path.write_bytes(b"not a model")
    with pytest.raises(InputError, match="bad.onnx is not an ONNX model: "):
        model_from_onnx(path)
    with pytest.raises(InputError, match="cannot read .*nothing.onnx: No such file"):
        model_from_onnx(tmp_path / "nothing.onnx")
    graph = helper.make_graph([], "two", [], [])
    onnx.save(helper.make_model(graph), str(path))
    with pytest.raises(InputError, match="has 0 inputs and 0 outputs: expected one of each"):
        model_from_onnx(path)
