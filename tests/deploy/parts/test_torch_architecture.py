import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jmsnas.blocks import build_module
from jmsnas.deploy.parts.torch_architecture import MAX_BLOCKS, parse_architecture
from jmsnas.errors import PartError
from jmsnas.mobilenets import NAMES, mobilenet
from jmsnas.space_file import load_space


def test_weights_bytes_by_hand() -> None:
    # stem 1->16: 3x3x16 weights; BatchNorm 16 x (weight, bias, mean, variance) and a counter of 8 bytes.
    found = parse_architecture(["stem 1->16 8x8"], (1, 1, 8, 8), (1, 16, 8, 8))
    assert found.weights_bytes == 4 * (9 * 16 + 4 * 16) + 8


@given(st.sampled_from(NAMES), st.data())
@settings(max_examples=12, deadline=None)
def test_weights_bytes_agree_with_torch(name: str, data: st.DataObject) -> None:
    blocks = mobilenet(name, (3, 32, 32), 10, 0.25).blocks
    first = data.draw(st.integers(0, len(blocks) - 1))
    chosen = blocks[first : data.draw(st.integers(first + 1, len(blocks)))]
    shapes = (1, *chosen[0].layer.input_shape), (1, *chosen[-1].layer.output_shape)
    found = parse_architecture([str(block) for block in chosen], *shapes)
    assert found.part.blocks == chosen
    with torch.device("meta"):
        tensors = build_module(found.part).state_dict().values()
    assert found.weights_bytes == sum(tensor.nbytes for tensor in tensors)


def test_every_block_of_a_space_is_parsed() -> None:
    for block in load_space("digits").blocks():
        if block.candidate.op != "identity":
            shapes = (1, *block.layer.input_shape), (1, *block.layer.output_shape)
            assert parse_architecture([str(block)], *shapes).part.blocks == (block,)


@pytest.mark.parametrize(
    ("texts", "shapes", "refused"),
    [
        ([], ((1, 1, 8, 8), (1, 16, 8, 8)), "of 0 blocks: expected 1 to 256"),
        (["identity 8->8 8x8"] * (MAX_BLOCKS + 1), ((1, 8, 8, 8),) * 2, "of 257 blocks"),
        (["x" * 81], ((1, 1, 8, 8), (1, 16, 8, 8)), "an unknown block: update jmsnas"),
        (["stem 1->16"], ((1, 1, 8, 8), (1, 16, 8, 8)), "an unknown block, or one that does not fit"),
        (["stem 1->16 8x8"], ((1, 1, 8, 8), (2, 16, 8, 8)), "another input or output shape"),
        (["stem 1->16 8x8"], ((), ()), "another input or output shape"),
        (["identity 8->8 8x8"], ((1, 8, 8, 8),) * 2, "computes nothing"),
        (["stem 1->16 8x8"], ((1 << 24, 1, 8, 8), (1 << 24, 16, 8, 8)), "a tensor of more than 268435456"),
    ],
)
def test_invalid_architectures_are_refused(
    texts: list[str], shapes: tuple[tuple[int, ...], ...], refused: str
) -> None:
    with pytest.raises(PartError, match=refused):
        parse_architecture(texts, shapes[0], shapes[1])
