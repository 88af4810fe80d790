"""Operator fusion: group the operators of a graph into units, each a heavy operator and those after it."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from jmsnas.cost import Operator
from jmsnas.nas.graph.model import Unit
from jmsnas.nas.graph.operator_costs import UNIT_STARTS, VIEWS, Shape, count_operator


@dataclass(frozen=True, slots=True)
class OperatorNode:
    """An operator of a computational graph.

    Attributes
    ----------
    kind
        Its name in torch, as `conv2d`.
    inputs, outputs
        Names of its input and output activations (tensors that depend on the image).
    input_shapes, weights, shapes
        Shapes of its inputs, of its learned tensors, and of its outputs; a single output may have several
        shapes, as that of torch's split.
    users
        Number of operators that read its output, the largest of several.
    groups
        Groups of a convolution.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    weights: tuple[Shape, ...]
    shapes: tuple[Shape, ...]
    users: int
    groups: int = 1

    @property
    def elements(self) -> int:
        """Number of output elements."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def is_view(self) -> bool:
        """Whether the outputs have the same elements as the inputs."""
        return self.kind in VIEWS and self.elements == sum(map(math.prod, self.input_shapes))

    def output_elements(self) -> dict[str, int]:
        """Number of elements of each output."""
        if len(self.outputs) == 1:
            return {self.outputs[0]: self.elements}
        return dict(zip(self.outputs, map(math.prod, self.shapes), strict=True))


@dataclass(slots=True)
class _Open:
    """A unit under construction; `shared`: several operators read its latest output."""

    inputs: tuple[int, ...]
    nodes: list[int] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    shared: bool = False


def fuse_operators(
    nodes: Sequence[OperatorNode], raw_input: str, results: Collection[str] = ()
) -> tuple[tuple[Unit, ...], tuple[tuple[int, ...], ...]]:
    """Fuse operators into units; returns the units, and the indices in `nodes` of each unit's operators.

    `results` are the names of the graph's outputs.
    """
    producer, units = {raw_input: 0}, list[_Open]()
    for n, node in enumerate(nodes):
        inputs = tuple(dict.fromkeys(producer[name] for name in node.inputs))
        follows = len(inputs) == 1 and inputs[0] > 0
        fused = node.kind not in UNIT_STARTS and follows and not units[inputs[0] - 1].shared
        if not (fused or (follows and node.is_view)):
            units.append(_Open(inputs))
            inputs = (len(units),)
        producer |= dict.fromkeys(node.outputs, inputs[0])
        _add(units[inputs[0] - 1], n, node)
    sent = _sent_elements(nodes, producer, results, len(units))
    closed = tuple(_unit(unit, elements) for unit, elements in zip(units, sent, strict=True))
    return closed, tuple(tuple(unit.nodes) for unit in units)


def _sent_elements(
    nodes: Sequence[OperatorNode], producer: Mapping[str, int], results: Collection[str], N: int
) -> list[int]:
    """Elements of each unit that others read, or the graph returns; a view counts as its tensor."""
    source, elements = dict[str, str](), dict[str, int]()
    for node in nodes:
        elements |= node.output_elements()
        if node.is_view and len(node.inputs) == len(node.shapes) == 1:
            source[node.outputs[0]] = source.get(node.inputs[0], node.inputs[0])
    sent: list[dict[str, int]] = [{} for _ in range(N)]
    read = [(name, producer[node.outputs[0]]) for node in nodes for name in node.inputs]
    for name, reader in (*read, *((name, 0) for name in results)):
        unit = producer.get(name, 0)
        if unit and unit != reader:
            sent[unit - 1][source.get(name, name)] = elements[name]
    # In-place operators of torch have outputs that no operator reads.
    last = {producer[node.outputs[0]]: node.elements for node in nodes}
    return [sum(tensors.values()) if tensors else last[n] for n, tensors in enumerate(sent, 1)]


def _add(unit: _Open, n: int, node: OperatorNode) -> None:
    unit.nodes.append(n)
    unit.shared |= node.users > 1
    if node.kind in VIEWS:
        return
    unit.names.append(_label(node))
    found = count_operator(node.kind, node.input_shapes, node.weights, node.shapes[0], node.groups)
    if found:
        unit.operators.append(found)
    else:
        unit.unknown.append(node.kind)


def _unit(unit: _Open, output_elements: int) -> Unit:
    return Unit(
        name=" + ".join(unit.names) or "view",
        inputs=unit.inputs,
        output_elements=output_elements,
        operators=tuple(unit.operators),
        parameters=sum(operator.parameters for operator in unit.operators),
        unknown=tuple(unit.unknown),
    )


def _label(node: OperatorNode) -> str:
    if node.kind == "conv2d" and node.weights:
        out, into, *kernel = node.weights[0]
        return f"conv {'x'.join(map(str, kernel))} {into}->{out}"
    return node.kind.rstrip("_")
