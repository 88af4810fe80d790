"""Latency of the layers and stages of a block by torchprof 0.3.0, the paper's profiler (section V-A).

torchprof (https://github.com/awwong1/torchprof) runs every leaf module under torch's autograd profiler. Its
release 0.3.0, the last that does not require torch < 2, is incompatible with current torch in three ways:
`profile` takes `use_device` instead of `use_cuda`, `EventList` has no `populate_cpu_children` because it
builds its tree itself, and Kineto prints two lines each time a profiler runs. `patched_torchprof` adapts
them while a block is profiled; torch itself is not changed, and torchprof's hooks run as they are.

The latency is torchprof's column "Self CPU total". Its "CPU total" adds nested operators to their callers
(conv2d, convolution, _convolution, mkldnn_convolution), so one microsecond counts about four times.
"""

import importlib
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.autograd import profiler
from torch.autograd.profiler_util import FunctionEvent

from jmsnas.errors import MeasurementError
from jmsnas.space import Block

# A stage starts with a module of these types and includes its normalisation, activation and flattening.
_STAGE_STARTS = (nn.Conv2d, nn.AdaptiveAvgPool2d, nn.Linear)
_ADVICE = "Expected torchprof 0.3.0 and a torch that JMSNAS was tested with: reinstall jmsnas"


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Latency of a block by stage, as torchprof measures it.

    Attributes
    ----------
    stages
        (name, median seconds over the runs) in execution order: expand, depthwise and project, each with its
        normalisation and activation, and add for a shortcut; stem; head_conv, head_pool, head_dense.
    total_s
        Median over the runs of the sum over torchprof's layers, seconds. An addition is no layer, so `add`
        is not included; medians of parts need not sum to the median of the sum.
    """

    block: Block
    stages: tuple[tuple[str, float], ...]
    total_s: float


class _Events(list[FunctionEvent]):
    """The events of a layer, with the method that torchprof calls."""

    def populate_cpu_children(self) -> None:
        """Do nothing: current torch returns events whose tree is built."""


class _Profile(profiler.profile):
    """torch's profiler with the constructor argument that torchprof passes."""

    def __init__(self, use_cuda: bool) -> None:
        super().__init__(use_device="cuda" if use_cuda else None)

    @property
    def function_events(self) -> _Events:
        """The events of the layer that ran last."""
        return _Events(super().function_events or ())


@contextmanager
def patched_torchprof() -> Iterator[Any]:
    """Provide the module `torchprof.profile`, patched to run on current torch inside this context.

    The name `tprofiler` in that module is replaced and restored at the end, so only one thread at a time may
    be inside. Kineto's log is silenced unless the environment sets KINETO_LOG_LEVEL.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # torchprof 0.3.0 compares with `is ""`
        wrapper: Any = importlib.import_module("torchprof.profile")
    original, silenced = wrapper.tprofiler, "KINETO_LOG_LEVEL" not in os.environ
    wrapper.tprofiler = SimpleNamespace(profile=_Profile)
    if silenced:
        os.environ["KINETO_LOG_LEVEL"] = "99"  # read once, when the first profiler of the process starts
    try:
        yield wrapper
    finally:
        wrapper.tprofiler = original
        if silenced:
            del os.environ["KINETO_LOG_LEVEL"]


def self_cpu_s(events: Iterable[FunctionEvent]) -> float:
    """Sum the self CPU time of operators (without their callees), seconds: torchprof's "Self CPU total"."""
    return float(sum(event.self_cpu_time_total for event in events)) * 1e-6


def layer_latency_s(module: nn.Module, x_NCHW: Tensor) -> dict[str, float]:
    """Run `module` once under torchprof and return the seconds of every layer, in module order.

    A layer is a leaf module, by its name in `named_modules`. Run it inside `pinned` and after a warm-up;
    gradients, evaluation mode and threads are left to the caller. An exception of `forward` is passed on;
    MeasurementError is raised when torchprof reports no time above 0 for a layer. `x_NCHW` is the input,
    (batch, channels, height, width).
    """
    found = _run(module, x_NCHW, None)
    seconds = {name: self_cpu_s(events) for name, events in found.items()}
    for name, layer_s in seconds.items():
        if not (math.isfinite(layer_s) and layer_s > 0):
            label = name or type(module).__name__
            raise MeasurementError(
                f"torchprof measured {layer_s:g} s in layer {label}: expected a time above 0. Profile only "
                f"modules that run operators (an Identity has none). {_ADVICE}"
            )
    return seconds


def stage_latency_s(block: Block, module: nn.Module, x_NCHW: Tensor) -> dict[str, float]:
    """Run a block once under torchprof and return the seconds of its stages, in execution order.

    Parameters and conditions are those of `layer_latency_s`; `module` is `blocks.build_module(block)`. A
    block with a shortcut runs a second time, as the addition is no layer and profilers cannot be nested.
    Raises MeasurementError for Identity, and when torchprof reports no time above 0 for a layer or for the
    addition.
    """
    stages = layer_stages(block, module)
    seconds = layer_latency_s(module, x_NCHW)
    found = dict.fromkeys(stages.values(), 0.0)
    for layer, stage in stages.items():
        found[stage] += seconds[layer]
    return {**found, "add": _add_s(block, module, x_NCHW)} if block.candidate.shortcut else found


def layer_stages(block: Block, module: nn.Module) -> dict[str, str]:
    """Map every layer of `module`, which is `blocks.build_module(block)`, to its stage in `Breakdown.stages`.

    Raises MeasurementError when the module has other layers than a block of this kind.
    """
    expansion = block.candidate.expansion
    names: Sequence[str] = {
        "mb": ("expand", "depthwise", "project")[expansion == 1 :],
        "stem": ("stem",),
        "head": ("head_conv", "head_pool", "head_dense"),
    }.get(block.candidate.op, ())
    found: dict[str, str] = {}
    started = 0
    for layer, part in module.named_modules():
        if next(part.children(), None) is not None:
            continue
        started += isinstance(part, _STAGE_STARTS)
        if names and 0 < started <= len(names):
            found[layer] = names[started - 1]
    if not names or started != len(names):
        raise MeasurementError(
            f"cannot break {block} down: found {started} layers that start a stage, expected "
            f"{', '.join(names) or 'an MBConv, stem or head: an Identity does not run'}"
        )
    return found


def _run(module: nn.Module, x_NCHW: Tensor, paths: Sequence[tuple[str, ...]] | None) -> dict[str, _Events]:
    """Return events by layer, of the modules at `paths` or, for None, of all leaves; empty if unused."""
    with patched_torchprof() as wrapper:
        with wrapper.Profile(module, paths=paths) as profiled:
            module(x_NCHW)
        traces, events = profiled.raw()
    return {
        ".".join(path[1:]): _Events(event for call in events.get(path, ()) for event in call)
        for path, leaf, _ in traces
        if (leaf if paths is None else path in paths)
    }


def _add_s(block: Block, module: nn.Module, x_NCHW: Tensor) -> float:
    """Return the seconds of the shortcut's addition, which only a trace of the whole block contains."""
    (events,) = _run(module, x_NCHW, [(type(module).__name__,)]).values()
    found = [event for event in events if event.cpu_parent is None and event.name == "aten::add"]
    # Total time of a top-level event: all operators called inside belong to the addition.
    seconds = float(sum(event.cpu_time_total for event in found)) * 1e-6
    if not (len(found) == 1 and math.isfinite(seconds) and seconds > 0):
        raise MeasurementError(
            f"torchprof measured {len(found)} additions of {seconds:g} s in {block}: expected one, above "
            f"0 s. {_ADVICE}"
        )
    return seconds
