from onnx import ModelProto, TensorProto, helper

from jmsnas.deploy.parts.call_overhead import RELU_ONNX, call_overhead_s


def test_the_model_is_a_relu() -> None:
    shape = [1, 24, 8, 8]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "call", [x], [y])
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10, producer_name="")
    assert ModelProto.FromString(RELU_ONNX) == model


def test_single_call_takes_longer() -> None:
    assert 0 <= call_overhead_s() < 0.05 and call_overhead_s() is call_overhead_s()
