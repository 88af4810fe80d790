import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.errors import SpaceError
from jmsnas.operations import OPERATIONS
from jmsnas.space import HEAD, IDENTITY, STEM, Block, Candidate, Layer, Part, valid_candidates
from jmsnas.space_file import load_space, mbconv_candidates

KEEPS = Layer(16, 16, 1, 8, 8)
HALVES = Layer(16, 24, 2, 7, 8)


def test_the_papers_thirteen() -> None:
    # Section IV-A: 3 kernel sizes x 2 expansions x (shortcut or not) + Identity = 13; 6 where shape changes.
    names = [candidate.name for candidate in valid_candidates(KEEPS, mbconv_candidates())]
    assert len(names) == len(set(names)) == 13
    assert {"mb_k3_e3", "mb_k7_e6_skip", "identity"} <= set(names)
    assert [c.name for c in valid_candidates(HALVES, mbconv_candidates())] == [
        "mb_k3_e3", "mb_k3_e6", "mb_k5_e3", "mb_k5_e6", "mb_k7_e3", "mb_k7_e6",
    ]  # fmt: skip


@given(st.builds(Candidate, st.sampled_from([1, 3, 5, 7, 31]), st.integers(1, 20), st.booleans()))
def test_a_name_reads_back(candidate: Candidate) -> None:
    assert Candidate.parse(candidate.name) == candidate


def test_fixed_names_read_back() -> None:
    assert [Candidate.parse(c.name) for c in (IDENTITY, STEM, HEAD)] == [IDENTITY, STEM, HEAD]


def any_candidate(op: str, kernel_size: int, expansion: int, shortcut: bool) -> Candidate:
    own = OPERATIONS[op]
    return Candidate(
        kernel_size if own.kernel_size is None else own.kernel_size,
        expansion if own.expansion is None else own.expansion,
        shortcut and own.shortcut,
        op,
    )


candidates = st.builds(
    any_candidate,
    st.sampled_from(sorted(OPERATIONS)),
    st.sampled_from([1, 3, 31]),
    st.sampled_from([1, 6, 99]),
    st.booleans(),
)


@st.composite
def any_block(draw: st.DrawFn) -> Block:
    candidate, size = draw(candidates), st.integers(1, 1 << 16)
    channels, height, width, out, stride, hidden = (draw(size) for _ in range(6))
    own = candidate.operation
    keeps = candidate.shortcut or candidate.op == "identity"
    return Block(
        candidate,
        Layer(
            channels,
            channels if keeps else out,
            1 if keeps else 1 + stride % 2,
            height,
            width,
            own.role,
            hidden if own.hidden else 0,
        ),
    )


@given(candidates)
def test_every_operations_name_reads_back(candidate: Candidate) -> None:
    assert Candidate.parse(candidate.name) == candidate


@given(any_block())
def test_a_block_reads_back(block: Block) -> None:
    assert Block.parse(str(block)) == block


def test_names_of_the_mobilenets() -> None:
    names = ["ds_k3", "mbv3_k5_hs_se_skip", "mbv3_k3_re", "stem_hs", "conv_hs", "classifier", "classifier_hs"]
    assert [Candidate.parse(name).op for name in names] == [
        "ds", "mbv3_hs_se", "mbv3_re", "stem_hs", "conv_hs", "classifier", "classifier_hs",
    ]  # fmt: skip
    assert Candidate.parse("mbv3_k5_hs_se_skip") == Candidate(5, 0, True, "mbv3_hs_se")


@pytest.mark.parametrize(
    "name",
    ["mb_k5", "mb_k5_e6_jump", "", "MB_k5_e6", "mb_k555_e6", "mb_k05_e6", "ds_k3_e1", "stem_k3"]
    + ["mbv3_k3", "mbv3_k3_hs_re", "mbv3_hs", "stem_hs_se", "mb_k\u0663_e6"],
)
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(SpaceError, match="unknown candidate .*expected a name such as mb_k5_e6_skip"):
        Candidate.parse(name)


def test_what_no_candidate_layer_or_block_can_be() -> None:
    with pytest.raises(SpaceError, match="odd kernel_size up to 31 .* got kernel_size 4, expansion 6"):
        Candidate(4, 6)
    with pytest.raises(
        SpaceError, match="mb needs .* an expansion up to 99, got kernel_size 3, expansion 100"
    ):
        Candidate(3, 100)
    with pytest.raises(SpaceError, match="unknown operation 'conv': expected one of mb, identity, .*conv_hs"):
        Candidate(3, 6, op="conv")
    with pytest.raises(
        SpaceError, match="stem needs kernel_size 3 and expansion 0 and no shortcut, got .* 5"
    ):
        Candidate(5, 0, op="stem")
    with pytest.raises(SpaceError, match="ds needs .* and no shortcut, got .* shortcut True"):
        Candidate(3, 1, True, op="ds")
    with pytest.raises(SpaceError, match="stride 1 or 2 .* got 16->0 channels, 8x8, stride 3"):
        Layer(16, 0, 3, 8, 8)
    with pytest.raises(SpaceError, match="role 'block', hidden_channels -1"):
        Layer(16, 16, 1, 8, 8, hidden_channels=-1)
    with pytest.raises(SpaceError, match="head needs hidden_channels of 1 or more, got 0"):
        Block(HEAD, Layer(32, 10, 1, 2, 2, "head"))
    with pytest.raises(SpaceError, match="mb_k3_e3 needs no hidden_channels, got 40"):
        Block(Candidate(3, 3), Layer(16, 16, 1, 8, 8, hidden_channels=40))
    with pytest.raises(SpaceError, match="identity needs a layer that keeps its shape, got 16->24 7x8 /2"):
        Block(IDENTITY, HALVES)
    with pytest.raises(SpaceError, match="stem needs a layer of role stem, got role block"):
        Block(STEM, KEEPS)
    with pytest.raises(SpaceError, match="mb_k3_e3 needs a layer of role block, got role head"):
        Block(Candidate(3, 3), Layer(32, 10, 1, 2, 2, "head", 128))


def test_geometry() -> None:
    assert HALVES.output_shape == (24, 4, 4)  # ceil(7 / 2) x ceil(8 / 2)
    assert HALVES.output_elements == 384
    head = Layer(32, 10, 1, 2, 2, "head", 128)
    assert head.output_shape == (10,) and head.output_elements == 10 and not head.keeps_shape
    assert str(Block(Candidate(5, 6), HALVES)) == "mb_k5_e6 16->24 7x8 /2"


def test_blocks_as_text() -> None:
    head = Block(HEAD, Layer(32, 10, 1, 2, 2, "head", 128))
    assert str(head) == "head 32->10 2x2 h128" and Block.parse("head 32->10 2x2 h128") == head
    assert head.middle_channels == 128 and Block(Candidate(5, 6), HALVES).middle_channels == 96


@pytest.mark.parametrize(
    "text",
    ["", "mb_k5_e6", "mb_k5_e6 16->24", "mb_k5_e6  16->24 7x8", "mb_k5_e6 16->24 7x8 /1", "x 016->24 7x8"],
)
def test_a_text_that_is_no_block(text: str) -> None:
    with pytest.raises(
        SpaceError, match="cannot read the block .*expected one such as 'mb_k5_e6 16->24 8x8 /2'"
    ):
        Block.parse(text)


def test_a_text_of_a_block_that_cannot_be() -> None:
    with pytest.raises(SpaceError, match="unknown candidate 'mb_k5'"):
        Block.parse("mb_k5 16->24 7x8")
    with pytest.raises(SpaceError, match="mb_k5_e6_skip needs a layer that keeps its shape, got 16->24 7x8"):
        Block.parse("mb_k5_e6_skip 16->24 7x8")


def whole(name: str) -> Part:
    space = load_space(name)
    chosen = (choices[0] for choices in space.choices)
    return Part(tuple(Block(c, layer) for c, layer in zip(chosen, space.layers, strict=True)))


def test_parts() -> None:
    part = whole("digits")
    assert (part.input_shape, part.output_shape) == ((1, 8, 8), (10,))
    # What sha256sum gives for the twelve texts, a line end between two of them.
    assert str(part) == "12 blocks, stem 1->16 8x8 to head 32->10 2x2 h128 (bfd23bb6)"
    assert str(Part(part.blocks[1:2])).startswith("1 block, mb_k3_e3_skip 16->16 8x8 (")
    # One block in the middle is another: the ends agree, the digits do not.
    other = Part((*part.blocks[:2], Block(Candidate(3, 6, True), part.blocks[2].layer), *part.blocks[3:]))
    assert str(other)[:-9] == str(part)[:-9] and str(other) != str(part)


def test_blocks_that_make_no_part() -> None:
    blocks = whole("digits").blocks
    with pytest.raises(SpaceError, match="a part needs one block or more, got none"):
        Part(())
    with pytest.raises(
        SpaceError,
        match=r"24->32 4x4 /2 cannot follow stem .* expected input shape \(16, 8, 8\), got \(24, 4, 4\)",
    ):
        Part((blocks[0], blocks[8]))
    with pytest.raises(
        SpaceError, match=r"stem 1->16 8x8 cannot follow head .* input shape \(10,\), got \(1, 8, 8\)"
    ):
        Part((blocks[-1], blocks[0]))


def test_distinct_blocks() -> None:
    # digits: 13 (16@8x8) + 6 (16->24) + 13 (24@4x4) + 6 (24->32) + 13 (32@2x2) = 51, and stem and head.
    digits = load_space("digits")
    assert (digits.N, digits.R, len(digits.blocks())) == (12, 13, 53)
    # imagenet: 6 x 6 + 13 x 5 = 101, and stem, head and the one fixed block.
    imagenet = load_space("imagenet")
    assert (imagenet.N, imagenet.R, len(imagenet.blocks())) == (24, 13, 104)
    assert imagenet.input_elements == 3 * 224 * 224
    # cifar: 4 stages of 6 (its width changes) + 13 (two layers alike) = 76, and stem and head. Of the 76
    # 4 are Identities, so 72 are MBConv.
    cifar = load_space("cifar").blocks()
    assert [block.candidate.op for block in cifar].count("mb") == 72
    assert len(cifar) == 76 + 2
    assert sorted({block.layer.out_channels for block in cifar if block.candidate.op == "mb"}) == [
        16,
        32,
        64,
        96,
    ]
