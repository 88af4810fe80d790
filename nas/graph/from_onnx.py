"""Read an ONNX file as a `Model`, by shape inference; refuses control flow and unknown shapes."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx
from onnx import ValueInfoProto, shape_inference

from jmsnas.errors import InputError
from jmsnas.nas.graph.fusion import OperatorNode, fuse_operators
from jmsnas.nas.graph.model import Model, Unit

# The limit of protobuf.
_MAX_BYTES = (1 << 31) - 1
_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
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


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file and infer its shapes, for a batch of one where the batch is free.

    Raises InputError when it cannot be read, holds control flow, or has an input or output of unknown shape.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES} bytes: expected a single ONNX file")
        model = onnx.load(str(path), load_external_data=False)
        flow = sorted({node.op_type for node in model.graph.node if node.op_type in _CONTROL_FLOW})
        if flow:
            raise InputError(f"{path} has control flow ({', '.join(flow)}): a split needs a fixed graph")
        given = raw_input(model, path)
        first = given.type.tensor_type.shape.dim
        if len(first) and not first[0].dim_value:
            first[0].dim_value = 1
        return shape_inference.infer_shapes(model, data_prop=True)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except InputError:
        raise
    except Exception as error:  # protobuf and onnx raise many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is not an ONNX model: {reason}") from error


def raw_input(model: onnx.ModelProto, path: Path) -> ValueInfoProto:
    """Find the one input that is no weight. Raises InputError."""
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise InputError(
            f"{path} has {len(inputs)} inputs and {len(model.graph.output)} outputs: expected one of each"
        )
    given: ValueInfoProto = inputs[0]
    return given


def model_from_onnx(path: Path) -> Model:
    """Read an ONNX file as a model of units. Raises InputError."""
    units, _, shape = onnx_units(path)
    return Model(str(path), shape[1:], units, f"ONNX file {path.name}")


def onnx_units(path: Path) -> tuple[tuple[Unit, ...], list[list[onnx.NodeProto]], tuple[int, ...]]:
    """Read the units of an ONNX file, the nodes of each, and the shape of its input (batch first)."""
    model = load_onnx(path)
    raw = raw_input(model, path)
    shapes = {raw.name: _fixed_shape(raw, path)}
    shapes |= {value.name: _shape_of(value) for value in (*model.graph.value_info, *model.graph.output)}
    weights = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    depends, found, nodes = {raw.name}, list[onnx.NodeProto](), list[OperatorNode]()
    users = Counter(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        inputs = [name for name in node.input if name in depends]
        if inputs:
            depends.update(node.output)
            found.append(node)
            nodes.append(_node(node, inputs, shapes, weights, users, path))
    if not nodes:
        raise InputError(f"{path} has no operator that depends on its input: expected one or more")
    nodes = _single_outputs(nodes, found)
    units, indices = fuse_operators(nodes, raw.name)
    return units, [[found[n] for n in own] for own in indices], shapes[raw.name]


def _single_outputs(nodes: list[OperatorNode], found: list[onnx.NodeProto]) -> list[OperatorNode]:
    """Rename all outputs of an operator to its first output."""
    first = {name: node.output[0] for node in found for name in node.output}
    return [
        replace(node, inputs=tuple(dict.fromkeys(first.get(name, name) for name in node.inputs)))
        for node in nodes
    ]


def _node(
    node: onnx.NodeProto,
    inputs: list[str],
    shapes: dict[str, tuple[int, ...]],
    weights: dict[str, tuple[int, ...]],
    users: Counter[str],
    path: Path,
) -> OperatorNode:
    outputs = [name for name in node.output if name]
    unknown = [name for name in (*inputs, *outputs) if not shapes.get(name)]
    if unknown:
        raise InputError(
            f"{path}: the shape of {unknown[0]} ({node.op_type}) is not known: expected fixed sizes. Export "
            "it with a fixed input"
        )
    kind = _KINDS.get(node.op_type, node.op_type)
    sized = (weights[name] for name in node.input if name in weights)
    learned = tuple(shape for shape in sized if math.prod(shape) > 1)
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if learned and (kind == "matmul" or (kind == "linear" and not attributes.get("transB"))):
        kind, learned = "linear", (learned[0][::-1], *learned[1:])
    return OperatorNode(
        kind=kind,
        inputs=tuple(inputs),
        output=outputs[0],
        input_shapes=tuple(shapes[name] for name in inputs),
        weights=learned[:2] if kind == "batch_norm" else learned,
        shapes=tuple(shapes[name] for name in outputs),
        users=max(users[name] for name in outputs),
        groups=int(attributes.get("group", 1)),
    )


def _fixed_shape(value: ValueInfoProto, path: Path) -> tuple[int, ...]:
    shape = _shape_of(value)
    if not shape or len(shape) < 2:
        raise InputError(f"{path}: the shape of input {value.name} is not known: expected fixed sizes")
    return shape


def _shape_of(value: ValueInfoProto) -> tuple[int, ...]:
    """Shape of a value; empty where a size is unknown."""
    sizes = [int(size.dim_value) for size in value.type.tensor_type.shape.dim]
    return tuple(sizes) if all(size > 0 for size in sizes) else ()
