"""Load a model by name (run, MobileNet, torchvision classifier, ONNX file), and make its split problem."""

from dataclasses import replace
from pathlib import Path

from jmsnas import mobilenets
from jmsnas.errors import InputError
from jmsnas.nas.graph.fork_join import fork_join_inputs
from jmsnas.nas.graph.model import Model, model_of_blocks, model_of_part
from jmsnas.nas.run_result import RunResult, finished_runs, read_result
from jmsnas.nas.split.general_topology import GeneralTopology, general_topology, load_general_topology
from jmsnas.nas.split.jpeg_size import jpeg_bytes
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.problem_of_model import problem_of_model
from jmsnas.progress import Progress, no_progress
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
) -> tuple[SplitProblem, str]:
    """Make the split problem of a model, images also as JPEG, and choose the default policy.

    The policy is the topology's, but `relay` in place of a `strict` that the model or the devices do not fit.
    Raises as `problem_of_model`.
    """
    is_image = len(model.input_shape) == 3 and model.input_shape[0] == 3
    jpeg = jpeg_bytes(model.input_shape[1], photograph) if is_image else None
    problem = problem_of_model(model, topology, workspace, jpeg, progress)
    strict_fits = (problem.is_chain and problem.is_chain_topology) or problem.fork
    return problem, "relay" if topology.policy == "strict" and not strict_fits else topology.policy


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
