import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.errors import TableError
from jmsnas.profiler.exchange.lut_keys import (
    HeadPiece,
    MeanLatency,
    is_mobilenetv3_key,
    join_heads,
    key_of_block,
    parse_key,
)
from jmsnas.space import IDENTITY, STEM, Block, Candidate, Layer
from jmsnas.space_file import load_space

PLAIN = "expanded_conv-input:56x56x24-output:28x28x40-expand:6-kernel:5-stride:2-idskip:0"
V3 = "expanded_conv-input:56x56x24-output:28x28x40-expand:72-kernel:5-stride:2-idskip:0-se:1-hs:0"


def one(key: str, v3: bool = False) -> Block:
    (found, *rest) = parse_key(key, v3)
    assert isinstance(found, Block) and not rest
    return found


def test_the_key_of_proxylessnas_is_an_mbconv() -> None:
    assert str(one(PLAIN)) == "mb_k5_e6 24->40 56x56 /2"
    skip = "expanded_conv-input:14x14x80-output:14x14x80-expand:3-kernel:7-stride:1-idskip:1"
    assert str(one(skip)) == "mb_k7_e3_skip 80->80 14x14"
    assert not is_mobilenetv3_key(PLAIN)


def test_the_key_of_once_for_all_gives_the_width_in_the_middle() -> None:
    assert is_mobilenetv3_key(V3) and str(one(V3, v3=True)) == "mbv3_k5_re_se 24->40 56x56 /2 h72"
    hard = V3.replace("-se:1-hs:0", "-se:0-hs:1")
    assert str(one(hard, v3=True)) == "mbv3_k5_hs 24->40 56x56 /2 h72"


def test_first_convolutions() -> None:
    key = "Conv-input:224x224x3-output:112x112x32"
    assert str(one(key)) == "stem 3->32 224x224 /2" and str(one(key, v3=True)) == "stem_hs 3->32 224x224 /2"
    assert str(one("Conv-input:32x32x3-output:32x32x16")) == "stem 3->16 32x32"


def test_pieces_of_heads() -> None:
    assert str(one("Conv_1-input:7x7x160-output:7x7x960", v3=True)) == "conv_hs 160->960 7x7"
    (mix,) = parse_key("Conv_1-input:7x7x320-output:7x7x1280", v3=False)
    assert mix == HeadPiece("Conv_1", (7, 7, 320), (7, 7, 1280)) and str(mix) == "Conv_1 7x7x320 -> 7x7x1280"
    # ProxylessNAS times pooling and dense layer as one: a block here, and the end of a head.
    classifier, end = parse_key("Logits-input:7x7x1280-output:1000", v3=False)
    assert str(classifier) == "classifier 1280->1000 7x7"
    assert end == HeadPiece("Logits", (7, 7, 1280), (1, 1, 1000))
    # Once-for-All's sees one pixel.
    assert parse_key("Logits-input:1x1x1280-output:1000", v3=True) == (
        HeadPiece("Logits", (1, 1, 1280), (1, 1, 1000)),
    )


@pytest.mark.parametrize(
    ("key", "v3", "message"),
    [
        ("layer3.conv", False, "'layer3.conv' is not a look-up table key: expected one such as 'expanded"),
        ("Pool-input:7x7x1-output:1x1x1", False, "is not a look-up table key"),
        (V3, False, "expected expand, kernel, stride and idskip, and se and hs in all keys of a table or in"),
        (
            PLAIN,
            True,
            "expected expand, kernel, stride and idskip, and se and hs in all keys of a table or in",
        ),
        ("expanded_conv-input:8x8x8-output:8x8x8", False, "describes an impossible block: expected expand"),
        ("Conv" + PLAIN[13:], False, "describes an impossible block: Conv has no expand"),
        (PLAIN.replace("28x28", "27x27"), False, "its output is 27x27, stride 2 gives 28x28"),
        (PLAIN.replace("kernel:5", "kernel:4"), False, "mb needs an odd kernel_size up to 31"),
        (PLAIN.replace("expand:6", "expand:0"), False, "describes an impossible block: mb needs"),
        (PLAIN.replace("stride:2", "stride:0"), False, "stride 1 or 2"),
        (PLAIN.replace("56x56x24", "0x56x24"), False, "a layer needs channels, height and width from 1"),
        (PLAIN.replace("idskip:0", "idskip:1"), False, "mb_k5_e6_skip needs a layer that keeps its shape"),
    ],
)
def test_invalid_keys(key: str, v3: bool, message: str) -> None:
    with pytest.raises(TableError, match=message):
        parse_key(key, v3)


def test_a_long_key_is_not_repeated_whole() -> None:
    with pytest.raises(TableError) as caught:
        parse_key("x" * 10_000, v3=False)
    assert len(str(caught.value)) < 400


V3_BLOCKS = [
    Block(Candidate(k, 0, False, op), Layer(16, 24, stride, 7, 9, "block", 40))
    for k in (3, 5)
    for stride in (1, 2)
    for op in ("mbv3_re", "mbv3_hs", "mbv3_re_se", "mbv3_hs_se")
]


@given(st.sampled_from([*load_space("digits").blocks(), *load_space("imagenet").blocks()]))
def test_blocks_of_a_space_come_back_from_their_key(block: Block) -> None:
    key = key_of_block(block, v3=False)
    if block.candidate == IDENTITY or block.candidate.op == "head":
        assert key is None
    else:
        assert key and one(key) == block


@pytest.mark.parametrize("block", V3_BLOCKS, ids=str)
def test_blocks_of_mobilenet_v3_come_back_from_their_key(block: Block) -> None:
    key = key_of_block(block, v3=True)
    assert key and one(key, v3=True) == block and key_of_block(block, v3=False) is None


def test_stem_and_mbconv_cannot_be_expressed_in_the_other_form() -> None:
    assert key_of_block(Block(STEM, Layer(3, 8, 2, 8, 8, "stem")), v3=True) is None
    assert key_of_block(one(PLAIN), v3=True) is None


def test_pieces_are_put_together_to_heads() -> None:
    mix, end = HeadPiece("Conv_1", (7, 7, 320), (7, 7, 1280)), HeadPiece("Logits", (7, 7, 1280), (1, 1, 1000))
    other = HeadPiece("Logits", (7, 7, 999), (1, 1, 10))
    figures = {mix: MeanLatency(3e-3, 3e-5, 100), end: MeanLatency(1e-3, 4e-5, 50), other: MeanLatency(1.0)}
    ((chain, block, figure),) = join_heads(figures)
    assert chain == (mix, end) and str(block) == "head 320->1000 7x7 h1280"
    # 3 ms + 1 ms; sqrt(30^2 + 40^2) us; as often as the rarer.
    assert figure.mean_s == pytest.approx(4e-3) and figure.half_s == pytest.approx(5e-5)
    assert figure.runs == 50


def test_a_head_of_once_for_all_has_three_pieces() -> None:
    pieces = [
        HeadPiece("AvgPool2D", (7, 7, 960), (1, 1, 960)),
        HeadPiece("Conv_2", (1, 1, 960), (1, 1, 1280)),
        HeadPiece("Logits", (1, 1, 1280), (1, 1, 1000)),
    ]
    ((chain, block, figure),) = join_heads({piece: MeanLatency(1e-4) for piece in pieces})
    assert chain == tuple(pieces) and str(block) == "classifier_hs 960->1000 7x7 h1280"
    assert figure == MeanLatency(pytest.approx(3e-4))


def test_more_pieces_than_a_table_has_are_refused() -> None:
    pieces = {HeadPiece("Conv_1", (1, 1, n), (1, 1, 1)): MeanLatency(1.0) for n in range(1, 302)}
    with pytest.raises(TableError, match="it has 301 pieces of heads: expected at most 300"):
        list(join_heads(pieces))
