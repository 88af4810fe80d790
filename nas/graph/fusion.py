"""Operator fusion: group the operators of a graph into units, each a heavy operator and those after it."""

import math
from collections.abc import Sequence
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
    inputs, output
        Names of its input and output activations (tensors that depend on the image).
    input_shapes, weights, shapes
        Shapes of its inputs, of its learned tensors, and of its outputs (several for a split only).
    users
        Number of operators that read its output.
    groups
        Groups of a convolution.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    input_shapes: tuple[Shape, ...]
    weights: tuple[Shape, ...]
    shapes: tuple[Shape, ...]
    users: int
    groups: int = 1

    @property
    def elements(self) -> int:
        """Number of output elements."""
        return sum(math.prod(shape) for shape in self.shapes)


@dataclass(slots=True)
class _Open:
    """A unit under construction; `shared`: several operators read its latest output."""

    inputs: tuple[int, ...]
    nodes: list[int] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    output_elements: int = 0
    shared: bool = False


def fuse_operators(
    nodes: Sequence[OperatorNode], raw_input: str
) -> tuple[tuple[Unit, ...], tuple[tuple[int, ...], ...]]:
    """Fuse operators into units; returns the units, and the indices in `nodes` of each unit's operators."""
    producer, units = {raw_input: 0}, list[_Open]()
    for n, node in enumerate(nodes):
        inputs = tuple(dict.fromkeys(producer[name] for name in node.inputs))
        follows = len(inputs) == 1 and inputs[0] > 0
        is_view = node.kind in VIEWS and node.elements == sum(map(math.prod, node.input_shapes))
        if not (follows and (is_view or (node.kind not in UNIT_STARTS and not units[inputs[0] - 1].shared))):
            units.append(_Open(inputs))
            inputs = (len(units),)
        producer[node.output] = inputs[0]
        _add(units[inputs[0] - 1], n, node)
    return tuple(map(_unit, units)), tuple(tuple(unit.nodes) for unit in units)


def _add(unit: _Open, n: int, node: OperatorNode) -> None:
    unit.nodes.append(n)
    unit.shared |= node.users > 1
    unit.output_elements = node.elements
    if node.kind in VIEWS:
        return
    unit.names.append(_label(node))
    found = count_operator(node.kind, node.input_shapes, node.weights, node.shapes[0], node.groups)
    if found:
        unit.operators.append(found)
    else:
        unit.unknown.append(node.kind)


def _unit(unit: _Open) -> Unit:
    return Unit(
        name=" + ".join(unit.names) or "view",
        inputs=unit.inputs,
        output_elements=unit.output_elements,
        operators=tuple(unit.operators),
        parameters=sum(operator.parameters for operator in unit.operators),
        unknown=tuple(unit.unknown),
    )


def _label(node: OperatorNode) -> str:
    if node.kind == "conv2d" and node.weights:
        out, into, *kernel = node.weights[0]
        return f"conv {'x'.join(map(str, kernel))} {into}->{out}"
    return node.kind.rstrip("_")
