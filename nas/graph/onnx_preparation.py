"""Prepare the graph of an ONNX file: inline functions, fold constants, drop unused nodes, infer shapes.

No step copies or computes the values of large weights: a weight behind Transpose or Cast stays a node that
depends on no input, and has a shape.
"""

import logging
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, shape_inference
from onnx.inliner import inline_local_functions
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.optimizer._constant_folding import FOLDED_FROM_KEY, fold_constants

from jmsnas.errors import InputError
from jmsnas.nas.graph.onnx_file import (
    MAX_ELEMENTS,
    SMALL_ELEMENTS,
    STANDARD_DOMAINS,
    printable,
    raw_input,
    read_onnx,
    reason_of,
    subgraphs,
    take_weights,
)

_FOLDS = 3
# Operators of shape arithmetic. Others may take any time and memory for small inputs and outputs.
_FOLDED_OPERATORS = (
    "Abs Add And Cast CastLike Ceil Clip Compress Concat ConstantOfShape CumSum Div Equal Expand Flatten "
    "Floor Gather GatherElements GatherND Greater GreaterOrEqual Identity Less LessOrEqual Max Min Mod Mul "
    "Neg NonZero Not Or Pow Range Reciprocal ReduceMax ReduceMin ReduceProd ReduceSum Reshape Round "
    "ScatterElements ScatterND Shape Sign Size Slice Sqrt Squeeze Sub Sum Tile Transpose Trilu Unsqueeze "
    "Where Xor"
)
# The size of their output follows from the values of their input, and is bounded by its size.
_SIZE_BY_VALUE = ("Compress", "NonZero")


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """Shape and element type (a number of `onnx.TensorProto.DataType`) of a tensor."""

    shape: tuple[int, ...]
    dtype: int


@dataclass(frozen=True, slots=True)
class PreparedGraph:
    """Graph of an ONNX file, ready to be split.

    Attributes
    ----------
    path
        The file.
    model
        The graph without functions, unused nodes and shape arithmetic; large weights are inputs of it.
    raw
        Name of the input that is no weight.
    weights
        Large weights, by name.
    tensors
        Shape and type of every tensor, by name.
    """

    path: Path
    model: ModelProto
    raw: str
    weights: Mapping[str, TensorProto]
    tensors: Mapping[str, TensorFacts]


def prepare_onnx(path: Path) -> PreparedGraph:
    """Read an ONNX file and prepare its graph, for a batch of one where the batch is free.

    Raises InputError, with the node and the reason, for a file that cannot be read or split.
    """
    model = read_onnx(path)
    try:
        raw = raw_input(model, path)
        _fix_batch(raw)
        if not (facts := known_facts(raw)):
            raise InputError(
                f"{path}: the shape of input {raw.name!r} is not fixed: expected fixed sizes. Export it with "
                "a fixed input"
            )
        if min(facts.shape, default=1) < 1:
            raise InputError(
                f"{path}: input {raw.name!r} has shape {list(facts.shape)}: expected one element or more"
            )
        name, weights = raw.name, take_weights(model.graph)
        _check_valid(model)
        model = inline_local_functions(model)
        for node in model.graph.node:
            node.name = node.name or next(filter(None, node.output), "")
        _forget_shapes(model.graph)
        prepared = _prepared(path, _folded(model), name, weights)
    except InputError:
        raise
    except Exception as error:  # onnx and onnxscript raise many kinds
        raise InputError(f"{path} is not a valid ONNX model: {reason_of(error)}") from error
    used = {name for node in prepared.model.graph.node for name in node.input}
    used |= {output.name for output in prepared.model.graph.output}
    for node in prepared.model.graph.node:
        _refuse_node(node, prepared, used)
    return prepared


def runnable_model(prepared: PreparedGraph) -> ModelProto:
    """Make a copy of a prepared graph with its weights, those in other files too, for onnxruntime.

    onnx refuses files outside of the folder of the ONNX file, and raises several kinds of errors.
    """
    model = ModelProto()
    model.CopyFrom(prepared.model)
    kept = [value for value in model.graph.input if value.name == prepared.raw]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for name, weight in prepared.weights.items():
        model.graph.initializer.add().CopyFrom(weight)
        model.graph.initializer[-1].name = name
    onnx.load_external_data_for_model(model, str(prepared.path.parent))
    return model


def _fix_batch(raw: ValueInfoProto) -> None:
    """Set a free batch to one."""
    first = raw.type.tensor_type.shape.dim
    if len(first) and not first[0].HasField("dim_value"):
        first[0].dim_value = 1


def _check_valid(model: ModelProto) -> None:
    """Check a model against the ONNX standard."""
    # Up to version 3 initializers are inputs too.
    model.ir_version = max(model.ir_version, 4)
    # The standard asks for a shape that onnxruntime does not need.
    bare = [output.type for output in model.graph.output if not output.type.tensor_type.HasField("shape")]
    for given in bare:
        given.tensor_type.shape.SetInParent()
    onnx.checker.check_model(model)
    for given in bare:
        given.tensor_type.ClearField("shape")


def _forget_shapes(graph: GraphProto) -> None:
    """Clear the shapes that the file claims of what standard operators compute: they may be wrong."""
    foreign = {name for node in graph.node if node.domain not in STANDARD_DOMAINS for name in node.output}
    kept = [value for value in graph.value_info if value.name in foreign]
    del graph.value_info[:], graph.quantization_annotation[:]
    graph.value_info.extend(kept)
    for output in graph.output:
        if output.name not in foreign:
            output.type.tensor_type.ClearField("shape")


def _folded(model: ModelProto) -> ModelProto:
    """Compute the nodes that depend on shapes and small constants only, drop unused nodes, infer shapes."""
    # Failed evaluations leave their node as it is.
    logging.getLogger("onnxscript.optimizer._constant_folding").setLevel(logging.ERROR)
    for _ in range(_FOLDS):
        graph = ir.from_proto(model)
        result = fold_constants(graph, onnx_shape_inference=True, should_fold=_is_shape_arithmetic)
        RemoveUnusedNodesPass()(graph)
        model = shape_inference.infer_shapes(ir.to_proto(graph))
        if not result.modified:
            break
    return model


def _is_shape_arithmetic(node: ir.Node) -> bool:
    """Whether to compute a node of constant inputs: those with a small output, in little time and memory."""
    for value in node.inputs:
        if value is not None:
            # The library lists all tensors behind a constant, which is quadratic in the length of a chain.
            value.meta.pop(FOLDED_FROM_KEY, None)
            if value.dtype == ir.DataType.STRING:
                return False
    if node.op_type not in _FOLDED_OPERATORS.split() or len(node.outputs) != 1:
        return False
    shape = node.outputs[0].shape
    if node.op_type in _SIZE_BY_VALUE:
        return True
    return shape is not None and shape.is_static() and math.prod(shape.numpy()) <= SMALL_ELEMENTS


def _prepared(path: Path, model: ModelProto, raw: str, weights: Mapping[str, TensorProto]) -> PreparedGraph:
    graph = model.graph
    tensors = {tensor.name: TensorFacts(tuple(tensor.dims), tensor.data_type) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if facts := known_facts(value):
            tensors[value.name] = facts
    used = {name for node in graph.node for name in node.input}
    return PreparedGraph(path, model, raw, {n: t for n, t in weights.items() if n in used}, tensors)


def known_facts(value: ValueInfoProto) -> TensorFacts | None:
    """Shape and type of a tensor; None where it is no tensor, or one of its sizes is not known."""
    tensor = value.type.tensor_type
    if not (value.type.HasField("tensor_type") and tensor.HasField("shape") and tensor.elem_type):
        return None
    if not all(size.HasField("dim_value") for size in tensor.shape.dim):
        return None
    return TensorFacts(tuple(size.dim_value for size in tensor.shape.dim), tensor.elem_type)


def _refuse_node(node: NodeProto, graph: PreparedGraph, used: Set[str]) -> None:
    """Refuse a node with graphs of its own, in training mode, or of unknown or empty outputs."""
    who = f"{graph.path}: node {node.name!r} ({printable(node.op_type)})"
    if subgraphs(node):
        raise InputError(f"{who} is control flow: a split needs a fixed graph")
    # A constant false as third input of Dropout has been folded.
    random = node.op_type == "Dropout" and any(node.input[2:])
    if random or any(a.name == "training_mode" and a.i for a in node.attribute):
        raise InputError(f"{who} is in training mode: expected a model exported for inference")
    for name in (name for name in node.output if name in used):
        facts = graph.tensors.get(name)
        if facts is None:
            raise InputError(f"{who} has an output of unknown shape: {_reason(node, graph)}")
        if min(facts.shape, default=1) < 1 or math.prod(facts.shape) > MAX_ELEMENTS:
            raise InputError(f"{who} has an output of shape {list(facts.shape)}: expected 1 to 2^28 elements")
    if mismatch := _mismatch(node, graph):
        raise InputError(f"{who} {mismatch}")


def _mismatch(node: NodeProto, graph: PreparedGraph) -> str:
    """Describe shapes that onnx accepts and onnxruntime refuses; empty if there are none."""
    shapes = [
        graph.tensors[name].shape for name in (*node.input[:2], *node.output[:1]) if name in graph.tensors
    ]
    if node.op_type == "Reshape" and math.prod(shapes[0]) != math.prod(shapes[-1]):
        return f"makes {list(shapes[-1])} of {list(shapes[0])}: expected as many elements"
    if node.op_type == "Conv":
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        if groups < 1 or shapes[1][1] * groups != shapes[0][1] or shapes[1][0] % groups:
            return (
                f"has weights {list(shapes[1])} in {groups} groups for an input {list(shapes[0])}: expected "
                "matching channels"
            )
    return ""


def _reason(node: NodeProto, graph: PreparedGraph) -> str:
    """Reason why the shape of a node's output is not known."""
    versions = {entry.domain: entry.version for entry in graph.model.opset_import}
    try:
        schema = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return "no operator of the ONNX standard"
    facts = {name: graph.tensors[name] for name in node.input if name in graph.tensors}
    types = {name: onnx.helper.make_tensor_type_proto(f.dtype, f.shape) for name, f in facts.items()}
    try:
        onnx.shape_inference.infer_node_outputs(schema, node, types)
    except Exception as error:  # onnx raises several kinds
        return reason_of(error)
    return "it depends on values that are known when the model runs only"
