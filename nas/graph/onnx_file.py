"""Read an ONNX file within limits of size and depth, with the values of large weights set apart."""

import math
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.external_data_helper import uses_external_data

from jmsnas.errors import InputError

# The limit of protobuf.
_MAX_BYTES = (1 << 31) - 1
_MAX_NODES = 20_000
_MAX_EDGES = 100_000
_MAX_ATTRIBUTE_NUMBERS = 1_000_000
_MAX_WEIGHT_ELEMENTS = 1 << 31
_MAX_NESTING = 50
MAX_ELEMENTS = 1 << 28
# Larger constants are weights or tables, whose values decide no shape.
SMALL_ELEMENTS = 1024
STANDARD_DOMAINS = ("", "ai.onnx")


def read_onnx(path: Path) -> ModelProto:
    """Read an ONNX file of dense weights and a limited number of nodes. Raises InputError."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES} bytes: expected a single ONNX file")
        model: ModelProto = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except InputError:
        raise
    except Exception as error:  # protobuf has errors of its own
        raise InputError(f"{path} is not an ONNX model: {reason_of(error)}") from error
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    if model.graph.sparse_initializer or any(a.HasField("sparse_tensor") for a in attributes):
        raise InputError(f"{path} has sparse weights: expected dense ones")
    if any(len(a.ints) + len(a.floats) > _MAX_ATTRIBUTE_NUMBERS for a in attributes):
        raise InputError(f"{path} has an attribute of more than {_MAX_ATTRIBUTE_NUMBERS} numbers")
    # onnx aborts the process on these.
    splits = (
        (len(node.output), a.i)
        for node in model.graph.node
        for a in node.attribute
        if a.name == "num_outputs"
    )
    if any(outputs != given for outputs, given in splits):
        raise InputError(f"{path} has a Split whose num_outputs is not the number of its outputs")
    newest = onnx.defs.onnx_opset_version()
    if any(entry.domain in STANDARD_DOMAINS and entry.version > newest for entry in model.opset_import):
        raise InputError(f"{path} is of an opset later than {newest}: expected an earlier one")
    _check_node_count(model, path)
    return model


def reason_of(error: BaseException) -> str:
    """Message of an error, or of the error behind it, as one printable line."""
    while error.__cause__:
        error = error.__cause__
    return printable(" ".join(str(error).split()) or type(error).__name__)


def printable(text: str) -> str:
    """Shorten a text of a file, and escape what is not printable in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:300])


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """Graphs in the attributes of a node: the body of a loop, the branches of a condition."""
    return [graph for a in node.attribute for graph in ([a.g] if a.HasField("g") else []) + list(a.graphs)]


def _check_node_count(model: ModelProto, path: Path) -> None:
    """Refuse a graph of too many nodes or edges, counted with every function inlined."""
    functions = {(function.domain, function.name): function.node for function in model.functions}
    counts: dict[tuple[str, str], tuple[int, int]] = {}

    def count(nodes: Sequence[NodeProto], within: tuple[tuple[str, str], ...]) -> tuple[int, int]:
        total, edges = 0, 0
        for node in nodes:
            called = (node.domain, node.op_type)
            if called in functions and called not in counts:
                if called in within or len(within) == _MAX_NESTING:
                    raise InputError(
                        f"{path} has functions that call each other without end, or more than {_MAX_NESTING} "
                        "deep: expected fewer levels"
                    )
                counts[called] = count(functions[called], (*within, called))
            inner = [counts.get(called, (1, 0)), *(count(graph.node, within) for graph in subgraphs(node))]
            total += sum(nodes for nodes, _ in inner)
            edges += len(node.input) + len(node.output) + sum(edges for _, edges in inner)
            if total > _MAX_NODES or edges > _MAX_EDGES:
                raise InputError(
                    f"{path} has more than {_MAX_NODES} nodes, or {_MAX_EDGES} inputs and outputs of nodes, "
                    "functions inlined: expected a smaller graph"
                )
        return total, edges

    count(model.graph.node, ())


def raw_input(model: ModelProto, path: Path) -> ValueInfoProto:
    """Find the one input that is no weight. Raises InputError."""
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise InputError(
            f"{path} has {len(inputs)} inputs and {len(model.graph.output)} outputs: expected one of each"
        )
    given: ValueInfoProto = inputs[0]
    return given


def take_weights(graph: GraphProto) -> dict[str, TensorProto]:
    """Replace large weights of a graph, constant nodes among them, by inputs; returns the weights by name.

    Initializers are no inputs of the graph afterwards.
    """
    names = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in names]
    constants = {n: tensor for n, node in enumerate(graph.node) if (tensor := _constant(node)) is not None}
    weights = {tensor.name: tensor for tensor in graph.initializer if _is_large(tensor)}
    weights |= {graph.node[n].output[0]: t for n, t in constants.items() if _is_large(t)}
    for name, tensor in weights.items():
        _check_weight(name, tensor)
    inputs += [onnx.helper.make_tensor_value_info(n, t.data_type, list(t.dims)) for n, t in weights.items()]
    nodes = [node for n, node in enumerate(graph.node) if n not in constants or node.output[0] not in weights]
    small = [tensor for tensor in graph.initializer if tensor.name not in weights]
    for field, kept in ((graph.input, inputs), (graph.node, nodes), (graph.initializer, small)):
        del field[:]
        field.extend(kept)
    return weights


def _constant(node: NodeProto) -> TensorProto | None:
    """Value of a Constant node that is a tensor."""
    if node.op_type != "Constant" or node.domain not in STANDARD_DOMAINS or len(node.output) != 1:
        return None
    return next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)


def _is_large(tensor: TensorProto) -> bool:
    return math.prod(tensor.dims) > SMALL_ELEMENTS or uses_external_data(tensor)


def _check_weight(name: str, tensor: TensorProto) -> None:
    if math.prod(tensor.dims) > _MAX_WEIGHT_ELEMENTS or min(tensor.dims, default=0) < 0:
        raise InputError(f"weight {name!r} has shape {list(tensor.dims)}: expected a smaller one")
    if not uses_external_data(tensor):
        onnx.checker.check_tensor(tensor)
