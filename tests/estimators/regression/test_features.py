import math

import numpy as np
import pytest

from jmsnas.cost import cost
from jmsnas.estimators.regression.block_shape import shape_of_block
from jmsnas.estimators.regression.features import (
    CHANNEL_PAIR,
    FEATURES,
    GEOMETRY,
    RESIDUAL,
    ROOFLINE,
    columns,
    features,
    group_ids,
)
from jmsnas.mobilenets import NAMES, mobilenet
from jmsnas.space import HEAD, IDENTITY, STEM, Block, Candidate, Layer
from jmsnas.space_file import load_space


def named(block: Block) -> dict[str, float]:
    return dict(zip(FEATURES, features([block])[0].tolist(), strict=True))


def test_mbconv_worked_by_hand() -> None:
    # mb_k3_e2_skip at 4->4 channels, 2x2 pixels: middle 8 channels.
    #   expand   1x1 4->8:  MACs 4*8*4 = 128;   reads 16, writes 32 numbers: 192 bytes
    #   depthwise 3x3 on 8: MACs 8*9*4 = 288;   reads 32, writes 32: 256 bytes
    #   project  1x1 8->4:  MACs 8*4*4 = 128;   reads 32, writes 16: 192 bytes
    #   norms 64 + 64 + 32, activations 64 + 64 numbers: 288 numbers, 1152 bytes
    #   addition reads 2*16, writes 16: 48 numbers, 192 bytes
    #   parameters 32 + 72 + 32, norms 16 + 16 + 8: 176 numbers, 704 bytes
    block = Block(Candidate(3, 2, True), Layer(4, 4, 1, 2, 2))
    found = named(block)
    assert [found[name] for name in ROOFLINE] == [
        *(128, 288, 128, 0),
        *(192, 256, 192, 1152, 192, 704),
        *(2, 1, 5, 1),
    ]
    assert [found[name] for name in GEOMETRY] == [4, 4, 2, 2, 1]
    # In, out, middle, pixels, stride, kernel size, expansion, gcd(2, 64), groups; nothing is squeezed.
    logs = [4, 4, 8, 4, 1, 3, 2, 2, 1, 1]
    flags = [1, 1, 0, 0]  # expands, shortcut; no identity, no swish
    assert [found[name] for name in RESIDUAL] == pytest.approx([*map(math.log, logs), *flags])


def test_identity_does_no_work() -> None:
    found = named(Block(IDENTITY, Layer(8, 8, 1, 4, 4)))
    assert [found[name] for name in ROOFLINE] == [0] * len(ROOFLINE)
    assert found["identity"] == 1 and found["log_kernel_size"] == 0


def test_stem_and_head_share_stages_with_their_like() -> None:
    stem = named(Block(STEM, Layer(1, 2, 1, 3, 3, "stem")))
    # 3x3 convolution 1->2 on 9 pixels: 9*1*2*9 = 162 MACs.
    assert (stem["expand_macs"], stem["depthwise_macs"], stem["project_macs"]) == (162, 0, 0)
    head = named(Block(HEAD, Layer(2, 10, 1, 3, 3, "head", 4)))
    # 1x1 2->4 on 9 pixels: 72 MACs; dense 4->10: 40 MACs.
    assert (head["expand_macs"], head["depthwise_macs"], head["project_macs"]) == (72, 0, 40)
    assert head["log_middle_channels"] == math.log(4)


def test_squeeze_and_excitation_worked_by_hand() -> None:
    # mbv3_k3_hs_se at 4->4, 2x2, 12 in the middle: the same stages as an MBConv of expansion 3. In project,
    # beside 12*4*4 = 192 MACs, the dense layers 12->8 and 8->12 with 96 each. The scaling of channels reads
    # 48 + 12 and writes 48 numbers: 108, 432 bytes.
    found = named(Block.parse("mbv3_k3_hs_se 4->4 2x2 h12"))
    assert (found["expand_macs"], found["depthwise_macs"], found["project_macs"]) == (192, 432, 192 + 96 + 96)
    assert (found["convolutions"], found["depthwise_convolutions"]) == (4, 1)
    # Three norms, two activations, a pool and the two activations between the dense layers.
    assert (found["elementwise_operators"], found["additions"], found["addition_bytes"]) == (8, 1, 432)
    plain = named(Block(Candidate(3, 3), Layer(4, 4, 1, 2, 2)))
    # Of the geometry alone the squeezed width and the activation differ: 12 / 4 rounds up to 8.
    differing = {name for name in RESIDUAL if found[name] != plain[name]}
    assert differing == {"log_squeezed_channels", "swish"}
    assert (found["log_squeezed_channels"], found["swish"]) == (math.log(9), 1)


def test_a_separable_convolution_has_no_expand_stage() -> None:
    found = named(Block.parse("ds_k3 4->8 2x2"))
    assert (found["expand_macs"], found["depthwise_macs"], found["project_macs"]) == (0, 144, 128)


def test_every_mac_and_parameter_of_a_space_is_counted() -> None:
    mobilenets = tuple(block for name in NAMES for block in mobilenet(name, width=0.5).blocks)
    blocks = load_space("imagenet").blocks() + mobilenets
    found = features(blocks)
    macs = found[:, columns(("expand_macs", "depthwise_macs", "project_macs"))].sum(axis=1)
    assert macs.tolist() == [cost(block).macs for block in blocks]
    parameters = found[:, columns(["parameter_bytes"])][:, 0]
    assert parameters.tolist() == [4 * cost(block).parameters for block in blocks]
    assert np.isfinite(found).all()


def test_no_blocks_make_no_rows() -> None:
    assert features([]).shape == (0, len(FEATURES))


@pytest.mark.parametrize(("width", "stride", "aligned"), [(32, 1, 32), (32, 2, 16), (28, 1, 4), (7, 2, 4)])
def test_alignment_is_that_of_the_output_rows(width: int, stride: int, aligned: int) -> None:
    found = named(Block(Candidate(3, 3), Layer(4, 8, stride, width, width)))
    assert found["log_aligned_width"] == pytest.approx(math.log(aligned))


@pytest.mark.parametrize(
    ("text", "macs"),
    [
        # Padding 3 on rows of 2: 12 in the middle, 49 each, 4 pixels: 12*49*4 = 2352.
        ("mb_k7_e3 4->4 2x2", 2352),
        ("mb_k7_e3 4->4 4x4 /2", 2352),
        ("mb_k7_e3 4->4 3x3", 0),
        ("mb_k5_e3 4->4 2x2", 0),
        # Padding 2 on rows of 1: 12*25 = 300.
        ("mb_k5_e3 4->4 1x1", 300),
        ("stem 1->4 1x1", 0),
    ],
)
def test_padding_wider_than_the_output_worked_by_hand(text: str, macs: int) -> None:
    found = named(Block.parse(text))
    assert found["overpadded_macs"] == macs and found["depthwise_macs"] >= macs


def test_blocks_and_their_shapes_are_described_alike() -> None:
    blocks = load_space("digits").blocks()
    assert (features([shape_of_block(block) for block in blocks]) == features(blocks)).all()


def test_groups_are_layer_geometries_or_what_is_named() -> None:
    one, other = Layer(8, 8, 1, 4, 4), Layer(8, 8, 1, 8, 8)
    blocks = [Block(Candidate(3, 3), one), Block(Candidate(5, 6), one), Block(Candidate(3, 3), other)]
    found = group_ids(features(blocks))
    assert found[0] == found[1] != found[2]
    assert group_ids(features(blocks), CHANNEL_PAIR).tolist() == [0, 0, 0]
    assert group_ids(features([])).shape == (0,)
