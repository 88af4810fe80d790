import pytest

from jmsnas.errors import SpaceError
from jmsnas.operations import (
    OPERATIONS,
    candidate_name,
    check_operation,
    make_divisible,
    parse_candidate_name,
    squeezed_channels,
)


def test_widths_are_rounded_as_the_papers_do() -> None:
    # Nearest multiple of 8, halves up; 8 at least; one more where a tenth would be lost (10 -> 8 loses 20 %).
    assert [make_divisible(c) for c in (1, 10, 12, 32 * 0.35, 16 * 0.75, 24 * 0.75)] == [
        8,
        16,
        16,
        16,
        16,
        24,
    ]
    assert [make_divisible(c) for c in (960, 96.4, 99.9)] == [960, 96, 96]
    # V3-small: 96 // 4 = 24, 88 // 4 = 22 -> 24, 120 // 4 = 30 -> 32.
    assert [squeezed_channels(c) for c in (16, 96, 88, 120)] == [8, 24, 24, 32]


@pytest.mark.parametrize("op", OPERATIONS)
def test_every_operation_has_a_name_that_reads_back(op: str) -> None:
    own = OPERATIONS[op]
    parts = (5 if own.kernel_size is None else own.kernel_size, 6 if own.expansion is None else own.expansion)
    check_operation(op, *parts, own.shortcut)
    assert parse_candidate_name(candidate_name(op, *parts, own.shortcut)) == (*parts, own.shortcut, op)


def test_what_no_candidate_can_be() -> None:
    with pytest.raises(
        SpaceError, match="mbv3_hs needs an odd kernel_size up to 31 and expansion 0, got .* 6"
    ):
        check_operation("mbv3_hs", 5, 6, False)
    with pytest.raises(SpaceError, match="expected one of mb, identity, stem"):
        check_operation("dw", 3, 0, False)
