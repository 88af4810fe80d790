"""Read an ONNX file as a `Model`: the operators of its prepared graph, fused into units."""

import math
from collections import Counter
from pathlib import Path

from onnx import NodeProto, TensorProto

from jmsnas.errors import InputError
from jmsnas.nas.graph.fusion import OperatorNode, fuse_operators
from jmsnas.nas.graph.model import Model, Unit
from jmsnas.nas.graph.onnx_file import printable
from jmsnas.nas.graph.onnx_preparation import PreparedGraph, prepare_onnx
from jmsnas.nas.graph.operator_costs import Shape

_KINDS = {
    "Conv": "conv2d",
    "Gemm": "linear",
    "MatMul": "matmul",
    "BatchNormalization": "batch_norm",
    "LayerNormalization": "layer_norm",
    "InstanceNormalization": "group_norm",
    "LRN": "local_response_norm",
    "Clip": "clamp",
    "MaxPool": "max_pool2d",
    "AveragePool": "avg_pool2d",
    "GlobalAveragePool": "adaptive_avg_pool2d",
    "GlobalMaxPool": "adaptive_max_pool2d",
    "ReduceMean": "mean",
    "Concat": "cat",
    "Gather": "index",
    "Dropout": "dropout",
    "Identity": "alias",
    "Unsqueeze": "unsqueeze",
    "Cast": "clone",
    "Transpose": "permute",
    "LeakyRelu": "leaky_relu",
}
_LOWERCASED = (
    "Relu Sigmoid HardSigmoid HardSwish Gelu Tanh Softmax LogSoftmax Elu Add Sub Mul Div Pad Where "
    "Flatten Reshape Squeeze Slice Split Expand"
)
_KINDS |= {name: name.lower() for name in _LOWERCASED.split()}
# Constants of these types are indices, sizes and masks.
_NOT_LEARNED = (TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING)


def model_from_onnx(path: Path) -> Model:
    """Read an ONNX file as a model of units. Raises InputError."""
    graph = prepare_onnx(path)
    units, _ = onnx_units(graph)
    return Model(str(path), graph.tensors[graph.raw].shape[1:], units, f"ONNX file {path.name}")


def onnx_units(graph: PreparedGraph) -> tuple[tuple[Unit, ...], list[list[NodeProto]]]:
    """Read the units of a prepared graph, and the nodes of each that depend on the input."""
    depends, found, nodes = {graph.raw}, list[NodeProto](), list[OperatorNode]()
    users = Counter(name for node in graph.model.graph.node for name in node.input)
    for node in graph.model.graph.node:
        if not depends.isdisjoint(node.input):
            depends.update(filter(None, node.output))
            found.append(node)
            nodes.append(_node(node, depends, graph, users))
    if not nodes:
        raise InputError(f"{graph.path} has no operator that depends on its input: expected one or more")
    units, indices = fuse_operators(nodes, graph.raw, {output.name for output in graph.model.graph.output})
    return units, [[found[n] for n in own] for own in indices]


def _node(node: NodeProto, depends: set[str], graph: PreparedGraph, users: Counter[str]) -> OperatorNode:
    inputs = [name for name in node.input if name in depends]
    outputs = [name for name in node.output if name in graph.tensors]
    input_shapes = [graph.tensors[name].shape for name in inputs]
    attributes = {attribute.name: int(attribute.i) for attribute in node.attribute}
    learned = {
        n: graph.tensors[name].shape
        for n, name in enumerate(node.input)
        if name and name not in depends and graph.tensors[name].dtype not in _NOT_LEARNED
    }
    kind = _KINDS.get(node.op_type, printable(node.op_type))
    if kind in ("linear", "matmul"):
        kind, learned = _matrix_product(learned, attributes)
        if attributes.get("transA"):
            input_shapes[0] = input_shapes[0][::-1]
    elif kind == "conv2d" and 1 not in learned:
        kind = "Conv without a constant weight"
    weight = learned.get(1)
    weights = tuple(shape for shape in learned.values() if math.prod(shape) > 1 or shape is weight)
    return OperatorNode(
        kind=kind,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        input_shapes=tuple(input_shapes),
        weights=weights[:2] if kind == "batch_norm" else weights,
        shapes=tuple(graph.tensors[name].shape for name in outputs),
        users=max(users[name] for name in outputs),
        groups=attributes.get("group", 1),
    )


def _matrix_product(learned: dict[int, Shape], attributes: dict[str, int]) -> tuple[str, dict[int, Shape]]:
    """Give the kind of a Gemm or MatMul, and its weights with those of the product first, inputs last."""
    if 1 in learned:
        shape = learned[1]
        if len(shape) > 1 and not attributes.get("transB"):
            shape = (*shape[:-2], shape[-1], shape[-2])
        return "linear", {1: shape, **{n: bias for n, bias in learned.items() if n > 1}}
    if 0 in learned:
        shape = learned[0][::-1] if attributes.get("transA") else learned[0]
        return "linear", {1: shape, **{n: bias for n, bias in learned.items() if n > 1}}
    return "matmul", learned
