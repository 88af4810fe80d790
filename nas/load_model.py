"""Load a model by name (run, MobileNet, torchvision classifier, ONNX file), and make its split problem."""

from dataclasses import replace
from pathlib import Path

from jmsnas import mobilenets
from jmsnas.errors import InputError
from jmsnas.nas.graph.fork_join import fork_join_inputs
from jmsnas.nas.graph.model import Model, is_real, model_of_blocks, model_of_part
from jmsnas.nas.run_result import RunResult, finished_runs, read_result
from jmsnas.nas.split.general_topology import GeneralTopology, general_topology, load_general_topology
from jmsnas.nas.split.jpeg_size import MAX_SIDE, image_sides, jpeg_bytes
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.problem_of_model import problem_of_model
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Block
from jmsnas.workspace import Workspace

_SIZES, _DEFAULT_SIZE = range(1, MAX_SIDE + 1), 224


def load_model(
    workspace: Workspace, name: str, size: int | None = None, width: float = 1.0, classes: int = 1000
) -> Model:
    """Load a model by name as a graph of units.

    `name` is a run of the workspace or its folder, `mobilenet_v1`, `_v2`, `_v3_small` or `_v3_large`, a
    classifier of torchvision, or a file ending in .onnx; `size` the pixels per side of the input of a
    MobileNet or classifier (None: 224), `width` the width multiplier of a MobileNet. Raises InputError for an
    unknown name (with the nearest known names), a model that cannot be read, or another size or width than
    that of a file or run, which are fixed.
    """
    if size is not None and size not in _SIZES:
        raise InputError(f"got --size {size}: expected 1 to {MAX_SIDE} pixels per side")
    if width != 1.0 and name not in mobilenets.NAMES:
        raise InputError(f"--width belongs to {', '.join(mobilenets.NAMES)}: leave it out for {name}")
    if name.endswith(".onnx"):
        from jmsnas.nas.graph.from_onnx import model_from_onnx

        return _of_size(model_from_onnx(Path(name)), size)
    if folder := find_run_folder(workspace, name):
        return _of_size(model_of_run(read_result(folder)), size)
    side = _DEFAULT_SIZE if size is None else size
    if name in mobilenets.NAMES:
        part = mobilenets.mobilenet(name, (3, side, side), classes, width)
        return model_of_part(part, name, f"{name}, width {width:g}, {side}x{side}")
    from jmsnas.nas.graph.from_torch import model_from_torchvision, refuse_unknown_model, torchvision_names

    runs = sorted(path.name for path in finished_runs(workspace))
    refuse_unknown_model(name, (*runs, *mobilenets.NAMES, *torchvision_names()))
    return model_from_torchvision(name, side, classes)


def _of_size(model: Model, size: int | None) -> Model:
    """Return a model whose input has fixed sides. Raises InputError when `size` is given and differs."""
    shape = model.input_shape
    if size is not None and (len(shape) != 3 or (size, size) not in (shape[1:], shape[:2])):
        fixed = "x".join(map(str, shape)) or "a single number"
        raise InputError(
            f"got --size {size}, but {model.name} has a fixed input of {fixed}: leave out --size"
        )
    return model


def find_run_folder(workspace: Workspace, name: str) -> Path | None:
    """Find the folder of a finished run by name or path; None where there is no such run."""
    if "/" in name:
        return None if name.endswith(".onnx") else Path(name)
    return workspace.run(name) if (workspace.folder / "runs" / name / "result.json").exists() else None


def topology_for_split(workspace: Workspace, model: str | None, topology: str | None) -> GeneralTopology:
    """Load the topology to split on: the given one, else that of the run `model`, else the paper's chain."""
    folder = find_run_folder(workspace, model) if model and topology is None else None
    if folder is None:
        return load_general_topology(topology or "chain", workspace.topologies)
    return general_topology(read_result(folder).topology)


def load_problem(
    model: Model,
    topology: GeneralTopology,
    workspace: Workspace,
    photograph: Path | None = None,
    progress: Progress = no_progress,
) -> SplitProblem:
    """Make the split problem of a model, images also as JPEG. Raises as `problem_of_model`."""
    return problem_of_model(model, topology, workspace, _jpeg_bytes(model, photograph), progress)


def _jpeg_bytes(model: Model, photograph: Path | None) -> float | None:
    """Bytes of the raw input as JPEG; None for an input that is no image. Raises InputError."""
    sides, dtype = image_sides(model.input_shape), model.input_dtype
    if sides and (dtype == "uint8" or is_real(dtype)):
        return model.batch * jpeg_bytes(*sides, photograph)
    if photograph is not None:
        shape = "x".join(map(str, model.input_shape)) or "a single number"
        raise InputError(
            f"got --image {photograph}, but {model.name} reads {dtype} of {shape}: expected an image of 3 "
            f"channels and at most {MAX_SIDE} pixels per side. Leave out --image"
        )
    return None


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
