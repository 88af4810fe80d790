import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from jmsnas.blocks import build, example_input
from jmsnas.cost import cost, operators
from jmsnas.space import HEAD, IDENTITY, STEM, Block, Candidate, Layer
from jmsnas.space_file import load_space


def test_worked_mbconv() -> None:
    # mb_k5_e6_skip at 16->16, 8x8: M = 96, 64 pixels.
    # expand 16*96*64 = 98304, depthwise 96*25*64 = 153600, project 96*16*64 = 98304 MACs.
    # weights 1536 + 2400 + 1536, normalisation 2*(96 + 96 + 16) = 416.
    found = cost(Block(Candidate(5, 6, True), Layer(16, 16, 1, 8, 8)))
    assert found.macs == 98304 + 153600 + 98304
    assert found.parameters == 1536 + 2400 + 1536 + 416
    # moved: convolutions (1024+6144)+(6144+6144)+(6144+1024), norms 2*(6144+6144+1024),
    # activations 2*(6144+6144), add 3*1024, and the parameters.
    assert found.moved == 7168 + 12288 + 7168 + 26624 + 24576 + 3072 + found.parameters
    assert found.moved_bytes(2) == 2 * found.moved


def test_identity_costs_nothing() -> None:
    assert operators(Block(IDENTITY, Layer(16, 16, 1, 8, 8))) == ()


def test_worked_stem_and_head() -> None:
    stem = cost(Block(STEM, Layer(3, 32, 2, 224, 224, "stem")))
    assert stem.macs == 9 * 3 * 32 * 112 * 112
    head = cost(Block(HEAD, Layer(320, 1000, 1, 7, 7, "head", 1280)))
    assert head.macs == 320 * 1280 * 49 + 1280 * 1000
    assert [op.kind for op in operators(Block(HEAD, Layer(320, 1000, 1, 7, 7, "head", 1280)))] == [
        "pointwise", "norm", "activation", "pool", "dense",
    ]  # fmt: skip


def counted_macs(module: nn.Module, block: Block) -> int:
    """Count what the built module really multiplies, layer by layer."""
    macs = 0

    def hook(layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(layer, nn.Conv2d):
            macs += output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            macs += layer.weight.numel()

    for layer in module.modules():
        layer.register_forward_hook(hook)
    with torch.inference_mode():
        module.eval()(example_input(block))
    return macs


@pytest.mark.parametrize("block", load_space("digits").blocks(), ids=str)
def test_the_built_module_agrees(block: Block) -> None:
    module = build(block)
    assert sum(p.numel() for p in module.parameters()) == cost(block).parameters
    assert counted_macs(module, block) == cost(block).macs


layers = st.builds(
    Layer,
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from([1, 2]),
    st.integers(1, 9),
    st.integers(1, 9),
)


@settings(max_examples=30, deadline=None)
@given(layers, st.sampled_from([3, 5, 7]), st.sampled_from([1, 3, 6]))
def test_any_geometry_agrees(layer: Layer, kernel_size: int, expansion: int) -> None:
    block = Block(Candidate(kernel_size, expansion, layer.keeps_shape), layer)
    assert counted_macs(build(block), block) == cost(block).macs
