"""Operator fusion: group the operators of a graph into units, each a heavy operator and those after it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from jmsnas.cost import Operator
from jmsnas.nas.graph.model import Tensor, Unit
from jmsnas.nas.graph.operator_costs import UNIT_STARTS, VIEWS, count_operator

_MAX_LABELS = 20


@dataclass(frozen=True, slots=True)
class OperatorNode:
    """An operator of a computational graph.

    Attributes
    ----------
    kind
        Its name in torch, as `conv2d`.
    inputs, outputs
        Its input and output activations (tensors that depend on the image). Several outputs may share a name,
        as those of torch's split, which are one value.
    weights
        Its learned tensors.
    users
        Number of operators that read its output, the largest of several.
    groups
        Groups of a convolution.
    attributes
        Its attributes, as text (see `Unit`).
    """

    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    users: int
    groups: int = 1
    attributes: str = ""

    @property
    def is_view(self) -> bool:
        """Whether the outputs have the same elements as the inputs, in the same dtype."""
        read, made = (
            (sum(tensor.elements for tensor in tensors), {tensor.dtype for tensor in tensors})
            for tensors in (self.inputs, self.outputs)
        )
        return self.kind in VIEWS and read == made


@dataclass(slots=True)
class _Open:
    """A unit under construction; `shared`: several operators read its latest output."""

    inputs: tuple[int, ...]
    nodes: list[int] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    peak_bytes: int = 0
    shared: bool = False


def fuse_operators(
    nodes: Sequence[OperatorNode], raw_input: str, results: Collection[str] = ()
) -> tuple[tuple[Unit, ...], tuple[tuple[int, ...], ...]]:
    """Fuse operators into units; returns the units, and the indices in `nodes` of each unit's operators.

    `results` are the names of the graph's outputs.
    """
    producer, units = {raw_input: 0}, list[_Open]()
    for n, node in enumerate(nodes):
        inputs = tuple(dict.fromkeys(producer[tensor.name] for tensor in node.inputs))
        follows = len(inputs) == 1 and inputs[0] > 0
        fused = node.kind not in UNIT_STARTS and follows and not units[inputs[0] - 1].shared
        if not (fused or (follows and node.is_view)):
            units.append(_Open(inputs))
            inputs = (len(units),)
        producer |= dict.fromkeys((tensor.name for tensor in node.outputs), inputs[0])
        _add(units[inputs[0] - 1], n, node)
    sent = _sent_tensors(nodes, producer, results, len(units))
    closed = tuple(_unit(unit, outputs) for unit, outputs in zip(units, sent, strict=True))
    return closed, tuple(tuple(unit.nodes) for unit in units)


def _sent_tensors(
    nodes: Sequence[OperatorNode], producer: Mapping[str, int], results: Collection[str], N: int
) -> list[tuple[Tensor, ...]]:
    """Tensors of each unit that others read, or the graph returns; of several views of a tensor the last."""
    source, made = dict[str, str](), dict[str, tuple[Tensor, ...]]()
    for node in nodes:
        names = list(dict.fromkeys(tensor.name for tensor in node.outputs))
        made |= {name: tuple(tensor for tensor in node.outputs if tensor.name == name) for name in names}
        if node.is_view and len(node.inputs) == len(node.outputs) == 1:
            own = node.inputs[0].name
            source[names[0]] = source.get(own, own)
    sent: list[dict[str, tuple[Tensor, ...]]] = [{} for _ in range(N)]
    read = [(tensor.name, producer[node.outputs[0].name]) for node in nodes for tensor in node.inputs]
    for name, reader in (*read, *((name, 0) for name in results)):
        unit = producer.get(name, 0)
        if unit and unit != reader:
            sent[unit - 1][source.get(name, name)] = made[name]
    return [tuple(tensor for tensors in own.values() for tensor in tensors) for own in sent]


def _add(unit: _Open, n: int, node: OperatorNode) -> None:
    unit.nodes.append(n)
    unit.shared |= node.users > 1
    if node.kind in VIEWS:
        return
    unit.names.append(_label(node))
    unit.attributes.append(node.attributes)
    unit.weights |= {tensor.name: tensor for tensor in node.weights}
    touched = sum(tensor.size_bytes for tensor in (*node.inputs, *node.outputs))
    unit.peak_bytes = max(unit.peak_bytes, touched)
    inputs, weights = ([tensor.shape for tensor in own] for own in (node.inputs, node.weights))
    found = count_operator(node.kind, inputs, weights, node.outputs[0].shape, node.groups)
    if found:
        unit.operators.append(found)
    else:
        unit.unknown.append(node.kind)


def _unit(unit: _Open, outputs: tuple[Tensor, ...]) -> Unit:
    more = f" + {len(unit.names) - _MAX_LABELS} more" if len(unit.names) > _MAX_LABELS else ""
    return Unit(
        name=" + ".join(unit.names[:_MAX_LABELS]) + more or "view",
        inputs=unit.inputs,
        outputs=outputs,
        operators=tuple(unit.operators),
        weights=tuple(unit.weights.values()),
        peak_bytes=unit.peak_bytes,
        unknown=tuple(unit.unknown),
        attributes=", ".join(filter(None, unit.attributes)),
    )


def _label(node: OperatorNode) -> str:
    if node.kind == "conv2d" and node.weights:
        out, into, *kernel = node.weights[0].shape
        return f"conv {'x'.join(map(str, kernel))} {into}->{out}"
    return node.kind.rstrip("_")
