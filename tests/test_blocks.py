import pytest
import torch
from torch import nn

from jmsnas.blocks import MBConv, SqueezeExcitation, build_module, example_input
from jmsnas.space import HEAD, IDENTITY, STEM, Block, Candidate, Layer, Part
from jmsnas.space_file import load_space

KEEPS = Layer(16, 16, 1, 8, 8)


@pytest.mark.parametrize("name", ["digits", "cifar", "imagenet"])
def test_every_block_has_the_shape_its_layer_says(name: str) -> None:
    for block in load_space(name).blocks()[:: 1 if name == "digits" else 20]:
        with torch.inference_mode():
            assert build_module(block).eval()(example_input(block, batch=2)).shape == (
                2,
                *block.layer.output_shape,
            )


def test_a_shortcut_adds_the_input() -> None:
    torch.manual_seed(0)
    block = Block(Candidate(5, 6, True), KEEPS)
    module = build_module(block).eval()
    assert isinstance(module, MBConv)
    x = example_input(block)
    torch.testing.assert_close(module(x), x + module.layers(x))


def test_a_part_runs_its_blocks_in_order() -> None:
    torch.manual_seed(0)
    blocks = (
        Block(STEM, Layer(1, 16, 2, 8, 8, "stem")),
        Block(Candidate(3, 3, True), Layer(16, 16, 1, 4, 4)),
        Block(HEAD, Layer(16, 10, 1, 4, 4, "head", 32)),
    )
    part = Part(blocks)
    module, x = build_module(part).eval(), example_input(part, batch=2, seed=5)
    assert torch.equal(x, example_input(blocks[0], batch=2, seed=5))
    expected = x
    for piece in module.children():
        expected = piece(expected)
    assert len(list(module.children())) == 3 and expected.shape == (2, *part.output_shape)
    torch.testing.assert_close(module(x), expected)


def test_squeeze_and_excitation_scales_channels() -> None:
    # Weights of 0 and a bias of b in the last layer give every channel hard-sigmoid(b) = b / 6 + 1 / 2.
    module = SqueezeExcitation(16)
    assert [p.shape[0] for p in module.parameters()] == [8, 8, 16, 16]  # a quarter is 4: 8 is the least
    with torch.no_grad():
        last = module.scale[3]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        last.weight.zero_()
        last.bias.copy_(torch.linspace(-3, 3, 16))
    x = torch.randn(2, 16, 3, 3)
    torch.testing.assert_close(module(x), x * torch.linspace(0, 1, 16)[:, None, None])


def test_identity_gives_back_its_input() -> None:
    x = example_input(Block(IDENTITY, KEEPS))
    assert build_module(Block(IDENTITY, KEEPS))(x) is x


def test_the_input_is_the_same_for_the_same_seed() -> None:
    block = Block(IDENTITY, KEEPS)
    assert torch.equal(example_input(block, seed=3), example_input(block, seed=3))
    assert not torch.equal(example_input(block, seed=3), example_input(block, seed=4))
