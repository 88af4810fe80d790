"""Load a model by name: a finished run, a MobileNet, a torchvision classifier, or an ONNX file."""

from dataclasses import replace
from pathlib import Path

from jmsnas import mobilenets
from jmsnas.errors import InputError
from jmsnas.nas.graph.fork_join import fork_join_inputs
from jmsnas.nas.graph.model import Model, model_of_blocks, model_of_part
from jmsnas.nas.run_result import RunResult, finished_runs, read_result
from jmsnas.space import Block
from jmsnas.workspace import Workspace

_SIZES = range(1, 4097)


def load_model(
    workspace: Workspace, name: str, size: int = 224, width: float = 1.0, classes: int = 1000
) -> Model:
    """Load a model by name as a graph of units.

    `name` is a run of the workspace or its folder, `mobilenet_v1`, `_v2`, `_v3_small` or `_v3_large`, a
    classifier of torchvision, or a file ending in .onnx; `size` the pixels per side of the input of a
    MobileNet or classifier, `width` the width multiplier of a MobileNet. Raises InputError for an unknown
    name (with the nearest known names), or a model that cannot be read.
    """
    if size not in _SIZES:
        raise InputError(f"got --size {size}: expected 1 to {_SIZES.stop - 1} pixels per side")
    if name.endswith(".onnx"):
        from jmsnas.nas.graph.from_onnx import model_from_onnx

        return model_from_onnx(Path(name))
    if folder := find_run_folder(workspace, name):
        return model_of_run(read_result(folder))
    if name in mobilenets.NAMES:
        part = mobilenets.mobilenet(name, (3, size, size), classes, width)
        return model_of_part(part, name, f"{name}, width {width:g}, {size}x{size}")
    if width != 1.0:
        raise InputError(f"--width belongs to {', '.join(mobilenets.NAMES)}: leave it out for {name}")
    from jmsnas.nas.graph.from_torch import model_from_torchvision, refuse_unknown_model, torchvision_names

    runs = sorted(path.name for path in finished_runs(workspace))
    refuse_unknown_model(name, (*runs, *mobilenets.NAMES, *torchvision_names()))
    return model_from_torchvision(name, size, classes)


def find_run_folder(workspace: Workspace, name: str) -> Path | None:
    """Find the folder of a finished run by name or path; None where there is no such run."""
    if "/" in name:
        return None if name.endswith(".onnx") else Path(name)
    return workspace.run(name) if (workspace.folder / "runs" / name / "result.json").exists() else None


def model_of_run(run: RunResult, size: int | None = None) -> Model:
    """Make the model of a run's derived architecture, at another input size if given."""
    blocks, children = list(run.blocks), run.topology.children
    branches = sorted(
        [n - 1 for n in t.layers] for t in run.derived.terms if t.device in children and t.layers
    )
    inputs = fork_join_inputs(len(blocks), branches)
    if size is not None:
        blocks = _resized(blocks, inputs, size)
    return model_of_blocks(blocks, inputs, run.folder.name, f"run {run.folder.name}")


def _resized(blocks: list[Block], inputs: tuple[tuple[int, ...], ...], size: int) -> list[Block]:
    shapes: list[tuple[int, ...]] = [(blocks[0].layer.in_channels, size, size)]
    found = []
    for block, outputs in zip(blocks, inputs, strict=True):
        _, height, width = shapes[outputs[0]]
        found.append(Block(block.candidate, replace(block.layer, height=height, width=width)))
        shapes.append(found[-1].layer.output_shape)
    return found
