"""Load a model by name: a finished run, a MobileNet, a torchvision classifier, or an ONNX file."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from jmsnas import mobilenets
from jmsnas.device import Device
from jmsnas.errors import InputError
from jmsnas.nas.graph.fork_join import MeshTree, fork_join_inputs
from jmsnas.nas.graph.model import Model, model_of_blocks, model_of_part
from jmsnas.nas.search.run_folder import read_result
from jmsnas.nas.split.general_topology import GeneralTopology
from jmsnas.space import Block
from jmsnas.topology import Link
from jmsnas.workspace import Workspace

_SIZES = range(1, 4097)


def load_model(
    workspace: Workspace, name: str, size: int = 224, width: float = 1.0, classes: int = 1000
) -> Model:
    """Load a model by name as a graph of units.

    Parameters
    ----------
    name
        A run of the workspace or its folder, `mobilenet_v1`, `_v2`, `_v3_small` or `_v3_large`, a classifier
        of torchvision, or a file ending in .onnx.
    size
        Pixels per side of the input, for a MobileNet or a torchvision classifier.
    width
        Width multiplier of a MobileNet.

    Raises
    ------
    InputError
        For an unknown name (with the nearest known names), or a model that cannot be read.
    """
    if size not in _SIZES:
        raise InputError(f"got --size {size}: expected 1 to {_SIZES.stop - 1} pixels per side")
    if name.endswith(".onnx"):
        from jmsnas.nas.graph.from_onnx import model_from_onnx

        return model_from_onnx(Path(name))
    if folder := find_run_folder(workspace, name):
        return model_of_run(read_result(folder), folder)
    if name in mobilenets.NAMES:
        part = mobilenets.mobilenet(name, (3, size, size), classes, width)
        return model_of_part(part, name, f"{name}, width {width:g}, {size}x{size}")
    if width != 1.0:
        raise InputError(f"--width belongs to {', '.join(mobilenets.NAMES)}: leave it out for {name}")
    from jmsnas.nas.graph.from_torch import model_from_torchvision, refuse_unknown_model, torchvision_names

    runs = sorted(path.parent.name for path in (workspace.folder / "runs").glob("*/result.json"))
    refuse_unknown_model(name, (*runs, *mobilenets.NAMES, *torchvision_names()))
    return model_from_torchvision(name, size, classes)


def find_run_folder(workspace: Workspace, name: str) -> Path | None:
    """Give the folder of the run a person names; None where the name is no run's."""
    if "/" in name:
        return None if name.endswith(".onnx") else Path(name)
    return workspace.run(name) if (workspace.folder / "runs" / name / "result.json").exists() else None


def model_of_run(document: dict[str, Any], folder: Path, size: int | None = None) -> Model:
    """Give the network of a run's result, at another input size if asked. Raises InputError."""
    try:
        pairs = zip(document["derived"]["candidates"], document["space"]["layers"], strict=True)
        blocks = [Block.parse(f"{name} {layer}") for name, layer in pairs]
        inputs = fork_join_inputs(len(blocks), _branches(document))
        if size is not None:
            blocks = _resized(blocks, inputs, size)
        return model_of_blocks(blocks, inputs, folder.name, f"run {folder.name}")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{folder / 'result.json'} is damaged: {type(error).__name__} {error}") from error


def _branches(document: dict[str, Any]) -> list[list[int]]:
    """Places of the layers of each branch: what the children of a mesh run."""
    children = document["network"]["tree"]["children"]
    terms = [term for term in document["derived"]["terms"] if term["device"] in children and term["layers"]]
    return sorted([int(n) - 1 for n in term["layers"]] for term in terms)


def _resized(blocks: list[Block], inputs: tuple[tuple[int, ...], ...], size: int) -> list[Block]:
    shapes: list[tuple[int, ...]] = [(blocks[0].layer.in_channels, size, size)]
    found = []
    for block, outputs in zip(blocks, inputs, strict=True):
        _, height, width = shapes[outputs[0]]
        found.append(Block(block.candidate, replace(block.layer, height=height, width=width)))
        shapes.append(found[-1].layer.output_shape)
    return found


def topology_of_run(document: dict[str, Any], folder: Path) -> GeneralTopology:
    """Give the devices, links and tree of a run's result, its input, policy and return. Raises InputError."""
    names = {field.name for field in fields(Device)}
    try:
        its = document["network"]
        devices = [{key: value for key, value in entry.items() if key in names} for entry in its["devices"]]
        tree = its["tree"]
        return GeneralTopology(
            tuple(Device(**device) for device in devices),
            tuple(Link(**link) for link in its["links"]),
            str(its["input"]),
            str(its["policy"]),
            MeshTree(tree["root"], tuple(tree["children"]), tree["fan_out"]) if tree["root"] else None,
            bool(its.get("returns", False)),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / 'result.json'} is damaged: {type(error).__name__} {error}") from error
