"""What each layer of a block costs as torchprof 0.3.0 sees it: the paper's way of profiling (section V-A).

torchprof (https://github.com/awwong1/torchprof) runs every leaf module of a network under torch's autograd
profiler. Its release 0.3.0, the last that does not ask for torch < 2, meets three changes in torch:
`profile` takes `use_device` for `use_cuda`, `EventList` builds its tree itself and has no
`populate_cpu_children`, and Kineto prints two lines each time a profiler runs. The bridge stands between the
two while a block is profiled; nothing of torch is ever replaced, and torchprof's own hooks run as they are.

Time is torchprof's column "Self CPU total". Its "CPU total" adds nested operators to those that called them
(conv2d, convolution, _convolution, mkldnn_convolution), so one microsecond counts about four times.
"""

import importlib
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.autograd import profiler
from torch.autograd.profiler_util import FunctionEvent

from jmsnas.blocks import example_input
from jmsnas.errors import InputError, MeasurementError
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.timing.backends import pinned
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.space import Block

# The first profiled runs pay for Kineto's start and torch's choice of kernels.
_WARM_UP_RUNS = 5
# A stage is a module of these kinds with what follows it: its normalisation, activation, flattening.
_STAGE_BEGINS = (nn.Conv2d, nn.AdaptiveAvgPool2d, nn.Linear)
_ADVICE = "Expected torchprof 0.3.0 and a torch that JMSNAS was tested with: reinstall jmsnas"


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Where the time of a block goes, as torchprof sees it.

    Attributes
    ----------
    block
        What was profiled.
    stages
        (name, median seconds over the runs) in the order they run: expand, depthwise and project, each with
        its normalisation and activation, and add behind a shortcut; stem; head_conv, head_pool, head_dense.
    total_s
        Median over the runs of the sum over torchprof's layers, seconds. An addition is no layer, so `add`
        is not in it; medians of parts need not sum to the median of the sum.
    """

    block: Block
    stages: tuple[tuple[str, float], ...]
    total_s: float


class _Events(list[FunctionEvent]):
    """The events of a layer, with the method torchprof asks of them."""

    def populate_cpu_children(self) -> None:
        """Leave all as it is: current torch has built the tree when it hands the events out."""


class _Profile(profiler.profile):
    """torch's profiler, made with the argument that torchprof gives it."""

    def __init__(self, use_cuda: bool) -> None:
        super().__init__(use_device="cuda" if use_cuda else None)

    @property
    def function_events(self) -> _Events:
        """The events of the layer that just ran."""
        return _Events(super().function_events or ())


@contextmanager
def patched_torchprof() -> Iterator[Any]:
    """Give torchprof's module `profile`, able to run on current torch inside this context.

    The name `tprofiler` in that module is replaced and put back at the end, so one thread at a time may be
    inside. Kineto's log stays silent where the environment does not set KINETO_LOG_LEVEL.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # torchprof 0.3.0 compares with `is ""`
        wrapper: Any = importlib.import_module("torchprof.profile")
    kept, silenced = wrapper.tprofiler, "KINETO_LOG_LEVEL" not in os.environ
    wrapper.tprofiler = SimpleNamespace(profile=_Profile)
    if silenced:
        os.environ["KINETO_LOG_LEVEL"] = "99"  # read once, when the first profiler of the process starts
    try:
        yield wrapper
    finally:
        wrapper.tprofiler = kept
        if silenced:
            del os.environ["KINETO_LOG_LEVEL"]


def self_cpu_s(events: Iterable[FunctionEvent]) -> float:
    """Seconds of operators, each without those it calls: torchprof's "Self CPU total", counted once."""
    return float(sum(event.self_cpu_time_total for event in events)) * 1e-6


def layer_latency_s(module: nn.Module, x_NCHW: Tensor) -> dict[str, float]:
    """Run `module` once under torchprof and give the seconds of every layer, in the order of the module.

    A layer is a leaf module under its name in `named_modules`. Run it inside `pinned` and after a warm-up;
    gradients, evaluation mode and threads are the caller's. What `forward` raises goes through, and is not
    run again.

    Parameters
    ----------
    module
        What to run; after the call its layers run without hooks again.
    x_NCHW
        Its input, (batch, channels, height, width).

    Raises
    ------
    MeasurementError
        When torchprof gives no time above 0 for a layer.
    """
    found = _run(module, x_NCHW, None)
    seconds = {name: self_cpu_s(events) for name, events in found.items()}
    for name, layer_s in seconds.items():
        if not (math.isfinite(layer_s) and layer_s > 0):
            label = name or type(module).__name__
            raise MeasurementError(
                f"torchprof saw {layer_s:g} s in layer {label}: expected a time above 0. Profile only what "
                f"runs operators (an Identity has none). {_ADVICE}"
            )
    return seconds


def stage_latency_s(block: Block, module: nn.Module, x_NCHW: Tensor) -> dict[str, float]:
    """Run a block once under torchprof and give the seconds of its stages, in the order they run.

    Parameters and conditions are those of `layer_latency_s`; `module` is what `blocks.build` made of `block`.
    With a shortcut it runs a second time: the addition is no layer, and profilers cannot be nested.

    Raises
    ------
    MeasurementError
        For Identity, and when torchprof gives no time above 0 for a layer or for the addition.
    """
    stages = layer_stages(block, module)
    seconds = layer_latency_s(module, x_NCHW)
    found = dict.fromkeys(stages.values(), 0.0)
    for layer, stage in stages.items():
        found[stage] += seconds[layer]
    return {**found, "add": _add_seconds(block, module, x_NCHW)} if block.candidate.shortcut else found


def torchprof_s(block: Block, runs: int, seed: int) -> float:
    """Latency of a block the paper's way, seconds: the sum over torchprof's layers, median over runs.

    Eager torch on one thread, batch 1. Raises InputError for fewer runs than 1, else as `layer_latency_s`.
    """
    module, x_NCHW = seeded_module(block, seed), example_input(block, 1, seed)
    with pinned(RuntimeKey("torch")):
        found = [(warm, sum(layer_latency_s(module, x_NCHW).values())) for warm in warm_up_schedule(runs)]
    return median(total_s for warm, total_s in found if warm)


def layer_stages(block: Block, module: nn.Module) -> dict[str, str]:
    """Stage of every layer of `module`, which `blocks.build` made of `block`; as `Breakdown.stages` has them.

    Raises
    ------
    MeasurementError
        When the module has other parts than a block of this kind.
    """
    expansion = block.candidate.expansion
    names: Sequence[str] = {
        "mb": ("expand", "depthwise", "project")[expansion == 1 :],
        "stem": ("stem",),
        "head": ("head_conv", "head_pool", "head_dense"),
    }.get(block.candidate.op, ())
    found: dict[str, str] = {}
    begun = 0
    for layer, part in module.named_modules():
        if next(part.children(), None) is not None:
            continue
        begun += isinstance(part, _STAGE_BEGINS)
        if names and 0 < begun <= len(names):
            found[layer] = names[begun - 1]
    if not names or begun != len(names):
        raise MeasurementError(
            f"cannot break {block} down: found {begun} parts that begin a stage, expected "
            f"{', '.join(names) or 'an MBConv, stem or head: an Identity does not run'}"
        )
    return found


def warm_up_schedule(runs: int) -> list[bool]:
    """Five runs that do not count, then `runs` that do, 1 or more. Raises InputError for fewer."""
    if runs < 1:
        raise InputError(f"cannot take the median of {runs} runs: expected 1 or more")
    return [False] * _WARM_UP_RUNS + [True] * runs


def _run(module: nn.Module, x_NCHW: Tensor, paths: Sequence[tuple[str, ...]] | None) -> dict[str, _Events]:
    """Give events by layer, of the modules at `paths` or, for None, of all leaves; empty where none ran."""
    with patched_torchprof() as wrapper:
        with wrapper.Profile(module, paths=paths) as profiled:
            module(x_NCHW)
        traces, events = profiled.raw()
    return {
        ".".join(path[1:]): _Events(event for call in events.get(path, ()) for event in call)
        for path, leaf, _ in traces
        if (leaf if paths is None else path in paths)
    }


def _add_seconds(block: Block, module: nn.Module, x_NCHW: Tensor) -> float:
    """Seconds of the shortcut's addition, seen only where the whole block is torchprof's path."""
    (events,) = _run(module, x_NCHW, [(type(module).__name__,)]).values()
    found = [event for event in events if event.cpu_parent is None and event.name == "aten::add"]
    # Top-level: all that runs inside belongs to the addition.
    seconds = float(sum(event.cpu_time_total for event in found)) * 1e-6
    if not (len(found) == 1 and math.isfinite(seconds) and seconds > 0):
        raise MeasurementError(
            f"torchprof saw {len(found)} additions of {seconds:g} s in {block}: expected one, above 0 s. "
            f"{_ADVICE}"
        )
    return seconds
