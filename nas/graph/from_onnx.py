"""Read an ONNX file as a `Model`: the operators of its prepared graph, fused into units."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from jmsnas.errors import InputError
from jmsnas.nas.graph.fusion import OperatorNode, fuse_operators
from jmsnas.nas.graph.model import Model, Tensor, Unit
from jmsnas.nas.graph.onnx_file import STANDARD_DOMAINS, printable
from jmsnas.nas.graph.onnx_preparation import PreparedGraph, prepare_onnx

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
    raw = _tensor(graph, graph.raw)
    batch, shape = (raw.shape[0], raw.shape[1:]) if len(raw.shape) > 1 else (1, raw.shape)
    return Model(str(path), shape, units, f"ONNX file {path.name}", batch, raw.dtype)


def onnx_units(graph: PreparedGraph) -> tuple[tuple[Unit, ...], list[list[NodeProto]]]:
    """Read the units of a prepared graph, and the nodes of each that depend on the input."""
    depends, found, nodes = {graph.raw}, list[NodeProto](), list[OperatorNode]()
    users = Counter(name for node in graph.model.graph.node for name in node.input)
    weights = _weights(graph)
    for node in graph.model.graph.node:
        if not depends.isdisjoint(node.input):
            depends.update(filter(None, node.output))
            found.append(node)
            nodes.append(_node(node, depends, graph, weights, users))
    if not nodes:
        raise InputError(f"{graph.path} has no operator that depends on its input: expected one or more")
    units, indices = fuse_operators(nodes, graph.raw, {output.name for output in graph.model.graph.output})
    return units, [[found[n] for n in own] for own in indices]


def _tensor(graph: PreparedGraph, name: str) -> Tensor:
    """Give a tensor of the graph. Raises InputError for one of text."""
    facts = graph.tensors[name]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(facts.dtype)
    if dtype == np.dtype(object):
        raise InputError(f"{graph.path}: {printable(name)!r} holds text: expected tensors of numbers")
    return Tensor(name, facts.shape, dtype.name)


def _weights(graph: PreparedGraph) -> dict[str, Tensor]:
    """Tensors that depend on no input, by name, as they are held in memory.

    A tensor and its copies, and the same operator over the same tensors, are held once; a dequantised tensor
    is held as it was.
    """
    held: dict[str, Tensor] = {}
    first: dict[tuple[object, ...], str] = {}
    depends = {graph.raw}
    for node in graph.model.graph.node:
        if not depends.isdisjoint(node.input):
            depends.update(filter(None, node.output))
            continue
        inputs = tuple(held[name].name if name in held else name for name in node.input)
        for n, name in enumerate(filter(None, node.output)):
            if node.op_type in ("Identity", "DequantizeLinear"):
                own = node.input[0]
                held[name] = held.get(own) or _tensor(graph, own)
            else:
                attributes = tuple(sorted(entry.SerializeToString() for entry in node.attribute))
                key = (node.domain, node.op_type, attributes, inputs, n)
                held[name] = replace(_tensor(graph, name), name=first.setdefault(key, name))
    return held


def _node(
    node: NodeProto, depends: set[str], graph: PreparedGraph, held: Mapping[str, Tensor], users: Counter[str]
) -> OperatorNode:
    inputs = [_tensor(graph, name) for name in node.input if name in depends]
    outputs = [name for name in node.output if name in graph.tensors]
    attributes = {attribute.name: int(attribute.i) for attribute in node.attribute}
    learned = {
        n: held.get(name) or _tensor(graph, name)
        for n, name in enumerate(node.input)
        if name and name not in depends and graph.tensors[name].dtype not in _NOT_LEARNED
    }
    standard = node.domain in STANDARD_DOMAINS
    kind = (
        _KINDS.get(node.op_type, printable(node.op_type))
        if standard
        else printable(f"{node.domain}:{node.op_type}")
    )
    if kind in ("linear", "matmul"):
        kind, learned = _matrix_product(learned, attributes)
        if attributes.get("transA"):
            inputs[0] = replace(inputs[0], shape=inputs[0].shape[::-1])
    elif kind == "conv2d" and 1 not in learned:
        kind = "Conv without a constant weight"
    weight = learned.get(1)
    weights = tuple(own for own in learned.values() if own.elements > 1 or own is weight)
    return OperatorNode(
        kind=kind,
        inputs=tuple(inputs),
        outputs=tuple(_tensor(graph, name) for name in outputs),
        weights=weights[:2] if kind == "batch_norm" else weights,
        attributes=", ".join(sorted(str(onnx.helper.printable_attribute(a)) for a in node.attribute)),
        users=max(users[name] for name in outputs),
        groups=attributes.get("group", 1),
    )


def _matrix_product(learned: dict[int, Tensor], attributes: dict[str, int]) -> tuple[str, dict[int, Tensor]]:
    """Give the kind of a Gemm or MatMul, and its weights with those of the product first, inputs last."""
    if 1 in learned:
        shape = learned[1].shape
        if len(shape) > 1 and not attributes.get("transB"):
            shape = (*shape[:-2], shape[-1], shape[-2])
        return "linear", {
            1: replace(learned[1], shape=shape),
            **{n: bias for n, bias in learned.items() if n > 1},
        }
    if 0 in learned:
        shape = learned[0].shape[::-1] if attributes.get("transA") else learned[0].shape
        return "linear", {
            1: replace(learned[0], shape=shape),
            **{n: bias for n, bias in learned.items() if n > 1},
        }
    return "matmul", learned
