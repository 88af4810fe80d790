import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.errors import SpaceError
from jmsnas.space import (
    HEAD,
    IDENTITY,
    STEM,
    Architecture,
    Block,
    Candidate,
    Layer,
    candidates_at,
    mbconv_candidates,
)
from jmsnas.space_file import load_space

KEEPS = Layer(16, 16, 1, 8, 8)
HALVES = Layer(16, 24, 2, 7, 8)


def test_the_papers_thirteen() -> None:
    # Section IV-A: 3 kernel sizes x 2 expansions x (shortcut or not) + Identity = 13; 6 where shape changes.
    names = [candidate.name for candidate in candidates_at(KEEPS, mbconv_candidates())]
    assert len(names) == len(set(names)) == 13
    assert {"mb_k3_e3", "mb_k7_e6_skip", "identity"} <= set(names)
    assert [c.name for c in candidates_at(HALVES, mbconv_candidates())] == [
        "mb_k3_e3", "mb_k3_e6", "mb_k5_e3", "mb_k5_e6", "mb_k7_e3", "mb_k7_e6",
    ]  # fmt: skip


@given(st.builds(Candidate, st.sampled_from([1, 3, 5, 7, 31]), st.integers(1, 20), st.booleans()))
def test_a_name_reads_back(candidate: Candidate) -> None:
    assert Candidate.parse(candidate.name) == candidate


def test_fixed_names_read_back() -> None:
    assert [Candidate.parse(c.name) for c in (IDENTITY, STEM, HEAD)] == [IDENTITY, STEM, HEAD]


@pytest.mark.parametrize("name", ["mb_k5", "mb_k5_e6_jump", "", "MB_k5_e6", "mb_k555_e6"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(SpaceError, match="unknown candidate .*expected a name such as mb_k5_e6_skip"):
        Candidate.parse(name)


def test_what_no_candidate_layer_or_block_can_be() -> None:
    with pytest.raises(SpaceError, match="odd kernel_size up to 31 .* got kernel_size 4, expansion 6"):
        Candidate(4, 6)
    with pytest.raises(SpaceError, match="unknown operation 'conv'"):
        Candidate(3, 6, op="conv")
    with pytest.raises(SpaceError, match="stride 1 or 2 .* got 16->0 channels, 8x8, stride 3"):
        Layer(16, 0, 3, 8, 8)
    with pytest.raises(SpaceError, match="identity needs a layer that keeps its shape, got 16->24 7x8 /2"):
        Block(IDENTITY, HALVES)
    with pytest.raises(SpaceError, match="stem cannot stand at a layer whose role is block"):
        Block(STEM, KEEPS)
    with pytest.raises(SpaceError, match="mb_k3_e3 cannot stand at a layer whose role is head"):
        Block(Candidate(3, 3), Layer(32, 10, 1, 2, 2, "head", 128))


def test_geometry() -> None:
    assert HALVES.output_shape == (24, 4, 4)  # ceil(7 / 2) x ceil(8 / 2)
    assert HALVES.output_elements == 384
    head = Layer(32, 10, 1, 2, 2, "head", 128)
    assert head.output_shape == (10,) and head.output_elements == 10 and not head.keeps_shape
    assert str(Block(Candidate(5, 6), HALVES)) == "mb_k5_e6 16->24 7x8 /2"


def test_distinct_blocks() -> None:
    # digits: 13 (16@8x8) + 6 (16->24) + 13 (24@4x4) + 6 (24->32) + 13 (32@2x2) = 51, and stem and head.
    digits = load_space("digits")
    assert (digits.N, digits.R, len(digits.blocks())) == (12, 13, 53)
    # imagenet: 6 x 6 + 13 x 5 = 101, and stem, head and the one fixed block.
    imagenet = load_space("imagenet")
    assert (imagenet.N, imagenet.R, len(imagenet.blocks())) == (24, 13, 104)
    assert imagenet.input_elements == 3 * 224 * 224


def test_architecture_indices() -> None:
    space = load_space("digits")
    architecture = Architecture(tuple(choices[-1] for choices in space.choices))
    assert architecture.indices(space) == (0, 12, 12, 12, 5, 12, 12, 12, 5, 12, 12, 0)
    assert architecture.names[4] == "mb_k7_e6"
    with pytest.raises(SpaceError, match="space digits has 12 layers, got 1"):
        Architecture((STEM,)).indices(space)
    wrong = Architecture((STEM, *(Candidate(3, 1),) * 10, HEAD))
    with pytest.raises(SpaceError, match="layer 2 cannot be mb_k3_e1: expected one of mb_k3_e3_skip"):
        wrong.indices(space)
