import pytest

from jmsnas.cost import operators
from jmsnas.estimators.regression.block_shape import shape_of_block
from jmsnas.mobilenets import NAMES, mobilenet
from jmsnas.space import HEAD, IDENTITY, STEM, Block, Candidate, Layer


def test_mbconv_worked_by_hand() -> None:
    block = Block(Candidate(5, 3, True), Layer(4, 4, 1, 6, 7))
    found = shape_of_block(block)
    assert (found.in_channels, found.out_channels, found.height, found.width, found.stride) == (4, 4, 6, 7, 1)
    assert (found.middle_channels, found.kernel_size, found.expansion) == (12, 5, 3.0)
    assert found.shortcut and not found.identity and not found.swish
    assert (found.groups, found.squeezed_channels) == (1, 0)
    assert found.operators == operators(block)


def test_a_given_width_is_the_expansion_it_makes() -> None:
    # 12 channels between 8 and 8; a quarter of 12, in multiples of 8, is 8 inside the squeeze.
    found = shape_of_block(Block.parse("mbv3_k3_hs_se 8->8 4x4 h12"))
    assert (found.middle_channels, found.expansion) == (12, 1.5)
    assert (found.squeezed_channels, found.swish) == (8, True)


def test_identity_stem_and_head() -> None:
    identity = shape_of_block(Block(IDENTITY, Layer(8, 8, 1, 4, 4)))
    assert identity.identity and identity.operators == () and identity.kernel_size == 0
    stem = shape_of_block(Block(STEM, Layer(3, 8, 2, 8, 8, "stem")))
    assert (stem.expansion, stem.kernel_size, stem.stride) == (1.0, 3, 2)
    head = shape_of_block(Block(HEAD, Layer(8, 10, 1, 4, 4, "head", 32)))
    assert (head.middle_channels, head.expansion) == (32, 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_every_block_of_a_mobilenet_has_a_shape(name: str) -> None:
    for block in mobilenet(name).blocks:
        found = shape_of_block(block)
        assert found.expansion > 0 and found.middle_channels > 0 and len(found.operators) > 0
