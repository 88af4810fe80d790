import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from jmsnas.blocks import build_module, example_input
from jmsnas.cost import cost, operators
from jmsnas.space import HEAD, IDENTITY, STEM, Block, Candidate, Layer, Part
from jmsnas.space_file import load_space


def test_worked_mbconv() -> None:
    # mb_k5_e6_skip at 16->16, 8x8: M = 96, 64 pixels.
    # expand 16*96*64 = 98304, depthwise 96*25*64 = 153600, project 96*16*64 = 98304 MACs.
    # weights 1536 + 2400 + 1536, normalisation 2*(96 + 96 + 16) = 416.
    block = Block(Candidate(5, 6, True), Layer(16, 16, 1, 8, 8))
    found = cost(block)
    assert found.macs == 98304 + 153600 + 98304
    assert found.parameters == 1536 + 2400 + 1536 + 416
    # moved: convolutions (1024+6144)+(6144+6144)+(6144+1024), norms 2*(6144+6144+1024),
    # activations 2*(6144+6144), add 3*1024.
    moved = sum(op.read + op.written for op in operators(block))
    assert moved == 7168 + 12288 + 7168 + 26624 + 24576 + 3072


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


def test_worked_squeeze_and_excitation() -> None:
    # mbv3_k3_hs_se at 8->8, 4x4 /2, 40 in the middle, 16 pixels in, 4 out; 40 // 4 = 10 is rounded to 16:
    # to 8 would lose more than a tenth.
    block = Block.parse("mbv3_k3_hs_se 8->8 4x4 /2 h40")
    found = operators(block)
    assert [op.kind for op in found] == [
        "pointwise", "norm", "activation", "depthwise", "norm", "activation",
        "pool", "dense", "activation", "dense", "activation", "multiply", "pointwise", "norm",
    ]  # fmt: skip
    # expand 8*40*16, depthwise 40*9*4, squeeze 40*16 and excite 16*40, project 40*8*4
    assert cost(block).macs == 5120 + 1440 + 640 + 640 + 1280
    # 320 + 360 + 320 weights, squeeze 40*16 + 16, excite 16*40 + 40, norms 2*(40 + 40 + 8)
    assert cost(block).parameters == 1000 + 656 + 680 + 176
    pool, multiply = found[6], found[11]
    assert (pool.read, pool.written) == (160, 40)
    assert (multiply.macs, multiply.read, multiply.written) == (0, 160 + 40, 160)


def test_worked_classifiers_and_separable_convolution() -> None:
    assert [op.kind for op in operators(Block.parse("ds_k3 8->16 4x4 /2"))] == [
        "depthwise", "norm", "activation", "pointwise", "norm", "activation",
    ]  # fmt: skip
    assert cost(Block.parse("ds_k3 8->16 4x4 /2")).macs == 8 * 9 * 4 + 8 * 16 * 4
    assert cost(Block.parse("classifier 32->10 2x2")).macs == 32 * 10
    wide = Block.parse("classifier_hs 32->10 2x2 h64")
    assert [op.kind for op in operators(wide)] == ["pool", "dense", "activation", "dense"]
    assert cost(wide).parameters == 33 * 64 + 65 * 10


def test_a_part_is_its_blocks_one_after_another() -> None:
    stem, head = Block.parse("stem 1->16 8x8 /2"), Block.parse("head 16->10 4x4 h32")
    part = Part((stem, head))
    assert operators(part) == operators(stem) + operators(head)
    one, other, both = cost(stem), cost(head), cost(part)
    assert (both.macs, both.parameters) == (one.macs + other.macs, one.parameters + other.parameters)


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


OTHERS = [
    "ds_k3 16->24 9x7 /2",
    "ds_k5 3->3 1x1",
    "stem_hs 3->16 9x9 /2",
    "conv_hs 24->40 3x3",
    "mbv3_k5_re 24->40 7x7 /2 h72",
    "mbv3_k3_hs_skip 40->40 4x4 h100",
    "mbv3_k3_re_se 16->16 8x8 /2 h16",
    "mbv3_k5_hs_se_skip 24->24 5x5 h60",
    "classifier 64->10 3x3",
    "classifier_hs 64->10 3x3 h96",
]
BLOCKS = [*load_space("digits").blocks(), *map(Block.parse, OTHERS)]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_built_module_agrees(block: Block) -> None:
    module = build_module(block)
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
    assert counted_macs(build_module(block), block) == cost(block).macs
