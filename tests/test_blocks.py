import pytest
import torch

from jmsnas.blocks import MBConv, build, example_input
from jmsnas.space import IDENTITY, Block, Candidate, Layer
from jmsnas.space_file import load_space

KEEPS = Layer(16, 16, 1, 8, 8)


@pytest.mark.parametrize("name", ["digits", "imagenet"])
def test_every_block_has_the_shape_its_layer_says(name: str) -> None:
    for block in load_space(name).blocks()[:: 1 if name == "digits" else 20]:
        with torch.inference_mode():
            assert build(block).eval()(example_input(block, batch=2)).shape == (2, *block.layer.output_shape)


def test_a_shortcut_adds_the_input() -> None:
    torch.manual_seed(0)
    block = Block(Candidate(5, 6, True), KEEPS)
    module = build(block).eval()
    assert isinstance(module, MBConv)
    x = example_input(block)
    torch.testing.assert_close(module(x), x + module.layers(x))


def test_identity_gives_back_its_input() -> None:
    x = example_input(Block(IDENTITY, KEEPS))
    assert build(Block(IDENTITY, KEEPS))(x) is x


def test_the_input_is_the_same_for_the_same_seed() -> None:
    block = Block(IDENTITY, KEEPS)
    assert torch.equal(example_input(block, seed=3), example_input(block, seed=3))
    assert not torch.equal(example_input(block, seed=3), example_input(block, seed=4))
