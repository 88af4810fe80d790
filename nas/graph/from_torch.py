"""Trace a torchvision classifier as a `Model`: exported without weights, operators fused into units."""

import difflib
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import fx, nn

from jmsnas.errors import InputError
from jmsnas.nas.graph.fusion import OperatorNode, fuse_operators
from jmsnas.nas.graph.model import Model, Tensor, Unit

# Weight initialisation of these takes minutes or warns, unless it is disabled.
_SLOW_TO_INITIALISE = ("googlenet", "inception_v3")


def torchvision_names() -> tuple[str, ...]:
    """Names of torchvision's classifiers, sorted, without quantised ones."""
    from torchvision import models

    return tuple(models.list_models(models))


def refuse_unknown_model(name: str, known: Sequence[str]) -> None:
    """Refuse an unknown model name, suggesting the closest known names. Raises InputError."""
    if name not in known:
        near = difflib.get_close_matches(name, dict.fromkeys(known), 4, 0.4)
        nearest = f": nearest are {', '.join(near)}" if near else ""
        raise InputError(
            f"unknown model {name!r}{nearest}. Expected a finished run, a classifier of torchvision, "
            "a file ending in .onnx, or --costs FILE"
        )


def make_classifier(name: str, classes: int = 1000, device: str = "cpu") -> nn.Module:
    """Make a torchvision classifier with random weights, in evaluation mode. Raises InputError."""
    refuse_unknown_model(name, torchvision_names())
    from torchvision.models import get_model

    given: dict[str, Any] = {"init_weights": False} if name in _SLOW_TO_INITIALISE else {}
    with warnings.catch_warnings(), torch.device(device):
        warnings.simplefilter("ignore")
        module: nn.Module = get_model(name, weights=None, num_classes=classes, **given)
    return module.eval()


def export_graph(module: nn.Module, name: str, input_shape: tuple[int, ...]) -> fx.GraphModule:
    """Trace a module for one image of this shape. Raises InputError when that fails."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(module, (torch.zeros(1, *input_shape, device=device),)).module()
    except Exception as error:  # any error of the model's own code
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot trace {name} for an input of {'x'.join(map(str, input_shape))}: {reason}. "
            "Expected another --size"
        ) from error


def model_from_torchvision(name: str, size: int = 224, classes: int = 1000) -> Model:
    """Trace a torchvision classifier for images of `size` x `size` as a model. Raises InputError."""
    shape = (3, size, size)
    graph = export_graph(make_classifier(name, classes, "meta"), name, shape)
    units, _ = fused_units(graph)
    return Model(name, shape, units, f"torchvision {version('torchvision')} {name}, {size}x{size}")


def fused_units(graph: fx.GraphModule) -> tuple[tuple[Unit, ...], tuple[tuple[fx.Node, ...], ...]]:
    """Fuse the operators of an exported graph into units; returns the units, and the nodes of each."""
    raw = next(node for node in graph.graph.nodes if node.op == "placeholder")
    # Running means and variances are not parameters; tied weights are one, under their first name.
    names = {id(parameter): name for name, parameter in graph.named_parameters()}
    depends, found, nodes = {raw}, list[fx.Node](), list[OperatorNode]()
    for node in graph.graph.nodes:
        inputs = [argument for argument in node.all_input_nodes if argument in depends]
        if node.op == "call_function" and inputs:
            depends.add(node)
            found.append(node)
            nodes.append(_node(node, inputs, graph, names))
    results = {source.name for source in graph.graph.output_node().all_input_nodes}
    units, indices = fuse_operators(nodes, raw.name, results)
    return units, tuple(tuple(found[n] for n in own) for own in indices)


def _node(
    node: fx.Node, inputs: list[fx.Node], graph: fx.GraphModule, names: Mapping[int, str]
) -> OperatorNode:
    learned = [
        (argument, names.get(id(operator.attrgetter(str(argument.target))(graph))))
        for argument in node.all_input_nodes
        if argument.op == "get_attr"
    ]
    kind = _kind(node)
    groups = node.args[6] if kind == "conv2d" and len(node.args) > 6 else 1
    return OperatorNode(
        kind=kind,
        inputs=tuple(tensor for source in inputs for tensor in _tensors(source, source.name)),
        outputs=_tensors(node, node.name),
        weights=tuple(tensor for weight, name in learned if name for tensor in _tensors(weight, name)),
        users=len(node.users),
        groups=int(str(groups)),
    )


def _kind(node: fx.Node) -> str:
    target: Callable[..., Any] | str = node.target
    name = str(target)
    return name.split(".")[1] if name.startswith("aten.") else str(getattr(target, "__name__", target))


def _tensors(node: fx.Node, name: str) -> tuple[Tensor, ...]:
    value = node.meta.get("val")
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(
        Tensor(name, tuple(int(size) for size in tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for tensor in values
        if tensor is not None
    )
