import importlib
import math
import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import profiler
from torch.autograd.profiler_util import EventList, FunctionEvent

from jmsnas.blocks import example_input
from jmsnas.errors import MeasurementError
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.timing import torchprof_backend
from jmsnas.profiler.timing.backends import pinned
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.profiler.timing.torchprof_backend import (
    Breakdown,
    layer_latency_s,
    layer_stages,
    patched_torchprof,
    self_cpu_s,
    stage_latency_s,
)
from jmsnas.space import HEAD, IDENTITY, STEM, Block, Candidate, Layer

SAME = Layer(8, 8, 1, 4, 4)
SKIP = Block(Candidate(3, 3, True), SAME)
PLAIN = Block(Candidate(5, 3), SAME)
NARROW = Block(Candidate(3, 1), Layer(8, 12, 2, 4, 4))
STEM_BLOCK = Block(STEM, Layer(1, 8, 1, 8, 8, "stem"))
HEAD_BLOCK = Block(HEAD, Layer(8, 10, 1, 2, 2, "head", 16))
STAGES = {
    SKIP: ("expand", "depthwise", "project", "add"),
    PLAIN: ("expand", "depthwise", "project"),
    NARROW: ("depthwise", "project"),
    STEM_BLOCK: ("stem",),
    HEAD_BLOCK: ("head_conv", "head_pool", "head_dense"),
}


class Odd(nn.Module):
    """Counts its runs; has a layer that runs twice, and one that runs optionally; may raise at the end."""

    def __init__(self, both: bool = True, error: Exception | None = None) -> None:
        super().__init__()
        self.twice, self.rarely = nn.ReLU(), nn.Tanh()
        self.both, self.error, self.runs = both, error, 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        y: Tensor = self.twice(self.twice(x))
        if self.error:
            raise self.error
        return self.rarely(y) if self.both else y


def once(block: Block) -> dict[str, float]:
    with pinned(RuntimeKey("torch")):
        return stage_latency_s(block, seeded_module(block), example_input(block))


@pytest.mark.parametrize("block", STAGES, ids=str)
def test_every_stage_has_time(block: Block) -> None:
    # Fails when torch changes so that the patched torchprof reports nothing.
    found = once(block)
    assert tuple(found) == STAGES[block]
    assert all(math.isfinite(seconds) and seconds > 0 for seconds in found.values())


def test_stage_is_the_sum_of_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    # Layers of 1, 2, 3, ... us: expand 1 + 2 + 3, depthwise 4 + 5 + 6, project 7 + 8.
    seen = {layer: (n + 1) * 1e-6 for n, layer in enumerate(layer_stages(PLAIN, seeded_module(PLAIN)))}
    monkeypatch.setattr(torchprof_backend, "layer_latency_s", lambda module, x: seen)
    assert once(PLAIN) == pytest.approx({"expand": 6e-6, "depthwise": 15e-6, "project": 15e-6})


def test_self_time_counts_nested_operators_once() -> None:
    # conv2d runs from 0 to 10 us and calls convolution from 2 to 7 us; relu runs from 20 to 23 us.
    # Self: (10 - 5) + 5 + 3 = 13 us. torchprof's "CPU total" would be 10 + 5 + 3 = 18 us.
    events = EventList(
        [
            FunctionEvent(id=index, name=name, thread=1, start_us=start, end_us=end)
            for index, (name, start, end) in enumerate(
                [("conv2d", 0, 10), ("convolution", 2, 7), ("relu", 20, 23)]
            )
        ]
    )
    events._build_tree()
    assert self_cpu_s(events) == pytest.approx(13e-6)
    assert sum(event.cpu_time_total for event in events) == 18


@given(st.lists(st.floats(0.1, 1e4), max_size=8))
def test_self_time_is_the_length_of_the_outermost(lengths: list[float]) -> None:
    # However deep operators nest, their self times sum to the outermost one's length.
    nested = sorted(lengths, reverse=True)
    events = EventList(
        [
            FunctionEvent(id=i, name=f"op{i}", thread=1, start_us=0.0, end_us=end)
            for i, end in enumerate(nested)
        ]
    )
    events._build_tree()
    assert self_cpu_s(events) == pytest.approx(max(nested, default=0.0) * 1e-6)


@settings(max_examples=30)
@given(
    st.sampled_from([3, 5, 7]),
    st.sampled_from([1, 3, 6]),
    st.integers(1, 6),
    st.integers(1, 6),
    st.booleans(),
)
def test_every_layer_has_a_stage(kernel: int, expansion: int, width: int, out: int, shortcut: bool) -> None:
    layer = Layer(width, width if shortcut else out, 1, 4, 4)
    block = Block(Candidate(kernel, expansion, shortcut), layer)
    # Convolution, normalisation, activation; the projection has no activation: 3 + 3 + 2, or 3 + 2.
    expand = [] if expansion == 1 else ["expand"] * 3
    stages = layer_stages(block, seeded_module(block))
    assert list(stages.values()) == [*expand, *["depthwise"] * 3, *["project"] * 2]


def test_identity_has_nothing_to_see() -> None:
    same = Block(IDENTITY, SAME)
    with pytest.raises(
        MeasurementError, match="cannot break identity 8->8 4x4 down: .* an Identity does not"
    ):
        once(same)
    with pytest.raises(
        MeasurementError, match="torchprof measured 0 s in layer Identity: expected a time above 0"
    ):
        layer_latency_s(seeded_module(same), example_input(same))


def test_module_of_another_block_is_refused() -> None:
    with pytest.raises(
        MeasurementError, match="found 2 layers that start a stage, expected expand, depthwise,"
    ):
        layer_stages(PLAIN, seeded_module(NARROW))


def test_layer_that_does_not_run_is_named() -> None:
    with pytest.raises(MeasurementError, match=r"0 s in layer rarely: expected .* above 0.* reinstall"):
        layer_latency_s(Odd(both=False), torch.ones(3))


def test_layer_that_runs_twice_is_one_layer() -> None:
    module = Odd()
    assert list(layer_latency_s(module, torch.ones(3))) == ["twice", "rarely"]
    assert module.runs == 1


@pytest.mark.parametrize("error", [TypeError("wrong kind"), AttributeError("populate"), RuntimeError("full")])
def test_what_forward_raises_goes_through_and_nothing_runs_again(error: Exception) -> None:
    module = Odd(error=error)
    with pytest.raises(type(error), match=str(error)):
        layer_latency_s(module, torch.ones(3))
    assert module.runs == 1
    module.error = None
    assert set(layer_latency_s(module, torch.ones(3))) == {"twice", "rarely"}


def test_profiled_module_computes_the_same_and_loses_its_hooks() -> None:
    module, x = seeded_module(SKIP, 3), example_input(SKIP, 1, 3)
    expected = module(x)
    layer_latency_s(module, x)
    torch.testing.assert_close(module(x), expected, rtol=0, atol=0)
    with (
        profiler.profile() as profiled
    ):  # a hook left behind would nest a second profiler, which torch refuses
        module(x)
    assert len(profiled.function_events or ()) > 8


def test_torch_and_torchprof_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    profile = profiler.profile
    with patched_torchprof() as wrapper:
        assert wrapper.tprofiler is not profiler and os.environ["KINETO_LOG_LEVEL"] == "99"
    with pytest.raises(KeyError), patched_torchprof():
        raise KeyError
    assert wrapper.tprofiler is profiler and profiler.profile is profile
    assert not hasattr(EventList, "populate_cpu_children") and "KINETO_LOG_LEVEL" not in os.environ


def test_log_level_of_the_user_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINETO_LOG_LEVEL", "3")
    with patched_torchprof():
        assert os.environ["KINETO_LOG_LEVEL"] == "3"
    assert os.environ["KINETO_LOG_LEVEL"] == "3"


def test_torchprof_is_compiled_without_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Warnings are errors here, and no compiled copy is found: its SyntaxWarning would end the command.
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchprof"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SyntaxError, match='"is" with'):
        importlib.import_module("torchprof.profile")
    with patched_torchprof() as wrapper:
        assert wrapper.Profile


def test_bad_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that gives no number, through torch's own event class.
    monkeypatch.setattr(FunctionEvent, "self_cpu_time_total", property(lambda event: math.nan))
    with pytest.raises(
        MeasurementError, match="torchprof measured nan s in layer layers.0: expected a time above 0"
    ):
        once(PLAIN)


def test_missing_addition_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # A shortcut that adds in place runs aten::add_: as if torch had named the operator anew.
    monkeypatch.setattr("jmsnas.blocks.MBConv.forward", lambda self, x: self.layers(x).add_(x))
    with pytest.raises(MeasurementError, match="measured 0 additions of 0 s in mb_k3_e3_skip 8->8 4x4"):
        once(SKIP)


def test_values_are_frozen() -> None:
    found = Breakdown(PLAIN, (("expand", 1e-6),), 1e-6)
    with pytest.raises(AttributeError, match="cannot assign to field 'total_s'"):
        found.total_s = 0.0  # type: ignore[misc]
