"""Measure the latency of each unit of a model on this host, and of the whole model."""

import functools
import operator
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.split_module import split_module

from jmsnas.errors import MeasurementError
from jmsnas.nas.graph.from_torch import export_graph, fused_units, make_classifier
from jmsnas.nas.graph.model import Model
from jmsnas.nas.graph.onnx_timing import onnx_calls
from jmsnas.nas.graph.unit_profile import (
    SCHEMA_VERSION,
    ModelProfile,
    profile_path,
    units_digest,
    write_profile,
)
from jmsnas.profiler.host.environment import describe_host
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, RuntimeKey
from jmsnas.profiler.table.measurement import Measurement
from jmsnas.profiler.timing.backends import pinned, prepare
from jmsnas.profiler.timing.paired_timing import Call, TimingConfig, measure, wall_clock
from jmsnas.progress import Progress, no_progress
from jmsnas.workspace import Workspace


def profile_units(
    model: Model,
    workspace: Workspace,
    device: str = "local",
    budget_s: float = 60.0,
    threads: int = 1,
    seed: int = 0,
    progress: Progress = no_progress,
) -> ModelProfile:
    """Measure every unit of a model and the whole model on this host, and write the profile.

    `model` is a torchvision classifier (run in eager torch) or an ONNX file (run in onnxruntime); `budget_s`
    the seconds of sampling. Raises MeasurementError when the model cannot be run unit by unit, StorageError.
    """
    onnx = model.name.endswith(".onnx")
    key = RuntimeKey("onnxruntime" if onnx else "torch", threads)
    calls = onnx_calls(Path(model.name), threads, seed) if onnx else torch_calls(model, seed)
    found: dict[int, Measurement] = {}
    with pinned(key):
        references = [
            prepare([REFERENCE_BLOCK], key, workspace.folder / "cache" / "onnx", seed)[0] for _ in range(4)
        ]
        timed = [wall_clock(call) for call in calls]
        config = TimingConfig(budget_s=budget_s)
        measure(timed, references, found.__setitem__, config, seed, progress=progress)
    profile = _profile(model, device, key, [found[n] for n in range(model.N + 1)])
    write_profile(profile_path(workspace, device, model, key.runtime), profile)
    return profile


def torch_calls(model: Model, seed: int) -> list[Call]:
    """Prepare a call of every unit of a torchvision classifier, and of the whole model as the last."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make_classifier(model.name)
    graph = export_graph(module, model.name, model.input_shape)
    x_NCHW = torch.randn(1, *model.input_shape, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return [*unit_calls(graph, x_NCHW, model.N), functools.partial(graph, x_NCHW)]


def _profile(model: Model, device: str, key: RuntimeKey, found: Sequence[Measurement]) -> ModelProfile:
    units, whole = found[:-1], found[-1]
    reference_s = whole.reference_s
    return ModelProfile(
        schema_version=SCHEMA_VERSION,
        model=model.name,
        device=device,
        runtime=key.runtime,
        threads=key.threads,
        digest=units_digest(model),
        median_s=tuple(unit.ratio * reference_s for unit in units),
        low_s=tuple(unit.ratio_low * reference_s for unit in units),
        high_s=tuple(unit.ratio_high * reference_s for unit in units),
        whole_s=whole.ratio * reference_s,
        converged=sum(unit.converged for unit in units),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=describe_host(),
    )


def unit_calls(graph: fx.GraphModule, x_NCHW: Tensor, N: int) -> list[Call]:
    """Cut an exported graph into its units, and prepare a call of each with its inputs for this image.

    Raises MeasurementError when the graph cannot be cut.
    """
    _, nodes = fused_units(graph)
    unit_of = {node: n for n, own in enumerate(nodes) for node in own}
    # Nodes that do not depend on the image (weights, position tables) go to the first unit that needs them.
    for node in reversed(list(graph.graph.nodes)):
        if node not in unit_of and node.op in ("call_function", "get_attr"):
            unit_of[node] = min((unit_of[user] for user in node.users if user in unit_of), default=0)
    try:
        cut = split_module(graph, graph, lambda node: unit_of.get(node, 0))
        taken: dict[int, tuple[Any, ...]] = {}
        handles = [
            part.register_forward_pre_hook(functools.partial(_keep, taken, int(name.rpartition("_")[2])))
            for name, part in cut.named_children()
            if name.startswith("submod_")
        ]
        cut(x_NCHW)
    except Exception as error:  # any error of the model's own code
        raise MeasurementError(
            f"cannot run the model unit by unit: {type(error).__name__} {error}"
        ) from error
    for handle in handles:
        handle.remove()
    if sorted(taken) != list(range(N)):
        raise MeasurementError(f"cannot run the model unit by unit: got {len(taken)} of {N} units")
    parts = [operator.attrgetter(f"submod_{n}")(cut) for n in range(N)]
    return [functools.partial(part, *taken[n]) for n, part in enumerate(parts)]


def _keep(taken: dict[int, tuple[Any, ...]], n: int, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    taken[n] = tuple(value.clone() if isinstance(value, Tensor) else value for value in inputs)
