"""From operators one after another to units: what only follows another operator joins its unit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from jmsnas.cost import Operator
from jmsnas.nas.graph.model import Unit
from jmsnas.nas.graph.operator_costs import UNIT_STARTS, VIEWS, Shape, count_operator


@dataclass(frozen=True, slots=True)
class OperatorNode:
    """One operator of a graph.

    Attributes
    ----------
    kind
        Its name in torch, as `conv2d`.
    inputs, output
        Names of the activations it takes and gives; what does not depend on the image is no activation.
    input_shapes, weights, shapes
        Shapes of these, of its learned tensors, and of what it gives (one, but for a split into several).
    users
        How many operators take its output.
    groups
        Of a convolution.
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
        """Numbers it gives."""
        return sum(math.prod(shape) for shape in self.shapes)


@dataclass(slots=True)
class _Open:
    """A unit that is being gathered, and whether others took what it gave so far."""

    inputs: tuple[int, ...]
    nodes: list[int] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    output_elements: int = 0
    taken: bool = False


def fuse_operators(
    nodes: Sequence[OperatorNode], raw_input: str
) -> tuple[tuple[Unit, ...], tuple[tuple[int, ...], ...]]:
    """Gather operators into units; gives them, and the places of each unit's operators in `nodes`."""
    made, units = {raw_input: 0}, list[_Open]()
    for place, node in enumerate(nodes):
        inputs = tuple(dict.fromkeys(made[name] for name in node.inputs))
        follows = len(inputs) == 1 and inputs[0] > 0
        looks = node.kind in VIEWS and node.elements == sum(map(math.prod, node.input_shapes))
        if not (follows and (looks or (node.kind not in UNIT_STARTS and not units[inputs[0] - 1].taken))):
            units.append(_Open(inputs))
            inputs = (len(units),)
        made[node.output] = inputs[0]
        _add(units[inputs[0] - 1], place, node)
    return tuple(map(_unit, units)), tuple(tuple(unit.nodes) for unit in units)


def _add(unit: _Open, place: int, node: OperatorNode) -> None:
    unit.nodes.append(place)
    unit.taken |= node.users > 1
    unit.output_elements = node.elements
    if node.kind in VIEWS:
        return
    unit.names.append(_words(node))
    found = count_operator(node.kind, node.input_shapes, node.weights, node.shapes[0], node.groups)
    if found:
        unit.operators.append(found)
    else:
        unit.unknown.append(node.kind)


def _unit(unit: _Open) -> Unit:
    learned = sum(operator.parameters for operator in unit.operators)
    name = " + ".join(unit.names) or "view"
    return Unit(
        name, unit.inputs, unit.output_elements, tuple(unit.operators), learned, None, tuple(unit.unknown)
    )


def _words(node: OperatorNode) -> str:
    if node.kind == "conv2d" and node.weights:
        out, into, *kernel = node.weights[0]
        return f"conv {'x'.join(map(str, kernel))} {into}->{out}"
    return node.kind.rstrip("_")
