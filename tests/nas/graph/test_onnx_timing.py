from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from jmsnas.errors import InputError, MeasurementError
from jmsnas.nas.graph.onnx_timing import onnx_calls, random_input

CASES = Path(__file__).parents[2] / "cases" / "onnx"
NODE = helper.make_node


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    given: tuple[int, list[int]],
    made: tuple[int, list[int]],
    *weights: onnx.TensorProto,
) -> Path:
    ends = [helper.make_tensor_value_info(name, *info) for name, info in (("x", given), ("y", made))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], list(weights))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


DTYPES = ("FLOAT16", "BFLOAT16", "FLOAT", "DOUBLE", "UINT8", "INT8", "INT32", "INT64", "BOOL")


@pytest.mark.parametrize("name", DTYPES)
def test_an_input_is_fed_as_the_file_declares_it(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dtype = getattr(TensorProto, name)
    nodes = [
        NODE("Cast", ["x"], ["a"], to=TensorProto.FLOAT),
        NODE("ReduceMean", ["a"], ["b"], axes=[1]),
        NODE("Relu", ["b"], ["y"]),
    ]
    calls = onnx_calls(save(tmp_path / "cast.onnx", nodes, (dtype, [1, 4]), (1, [1, 1])), 1, 0)
    for call in calls:
        call()
    assert len(calls) >= 2 and capfd.readouterr().err == ""


@pytest.mark.parametrize("shape", [[], [3], [2, 3], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5]])
def test_an_input_of_any_rank_is_fed(shape: list[int]) -> None:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT16, shape)
    value = random_input(given, 0)
    assert value.shape() == shape and value.data_type() == "tensor(float16)"
    assert np.array_equal(value.numpy(), random_input(given, 0).numpy())


@pytest.mark.parametrize("name", ["fp16", "float16_conv", "uint8in", "batch8"])
def test_files_that_were_fed_float32_run(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    denormal = np.float64(5e-324) / 1
    for call in onnx_calls(CASES / f"{name}.onnx", 1, 0):
        call()
    assert capfd.readouterr().err == "" and np.float64(5e-324) / 1 == denormal


def test_integer_activations_index_what_they_index_in_the_file(tmp_path: Path) -> None:
    table = helper.make_tensor("table", TensorProto.FLOAT, [3, 2], np.arange(6.0))
    nodes = [
        NODE("ArgMax", ["x"], ["a"], axis=1),
        NODE("Gather", ["table", "a"], ["b"]),
        NODE("ReduceMean", ["b"], ["y"], axes=[1]),
    ]
    calls = onnx_calls(save(tmp_path / "i.onnx", nodes, (1, [1, 3]), (1, [1, 1, 2]), table), 1, 0)
    for call in calls:
        call()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (NODE("Blur", ["x"], ["y"]), "net.onnx is not a valid ONNX model: No Op registered for Blur"),
        (
            NODE("Blur", ["x"], ["y"], domain="acme"),
            "cannot run .*net.onnx: .*acme:Blur.* is not a registered",
        ),
        (NODE("Reshape", ["x", "s"], ["y"]), r"node .y. \(Reshape\) makes \[7, 9\] of \[1, 4\]"),
    ],
)
def test_an_operator_that_cannot_run_is_named_and_nothing_is_logged(
    node: onnx.NodeProto, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [7, 9])
    path = save(tmp_path / "net.onnx", [node], (1, [1, 4]), (1, [1, 4]), shape)
    with pytest.raises((InputError, MeasurementError), match=message) as raised:
        onnx_calls(path, 1, 0)
    assert "\n" not in str(raised.value) and capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [
        (TensorProto.STRING, [1], "input x is of dtype string: expected a float16, bfloat16, float32"),
        (TensorProto.COMPLEX64, [1], "input x is of dtype complex64: expected"),
        (
            TensorProto.FLOAT,
            [1 << 20, 1 << 20],
            "input x has 1099511627776 elements: expected at most 268435456",
        ),
    ],
)
def test_an_input_that_cannot_be_fed_is_refused(dtype: int, shape: list[int], message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        random_input(helper.make_tensor_value_info("x", dtype, shape), 0)
