from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_published import a_record

from jmsnas.cost import Operator
from jmsnas.estimators.published.shapes import published_shape
from jmsnas.estimators.regression.features import features
from jmsnas.profiler.exchange.lut_csv import published_entries, to_csv_records
from jmsnas.space import Block

SAME = {"out_channels": 16, "shortcut": True}


def kinds(**changes: object) -> list[str]:
    return [operator.kind for operator in published_shape(a_record(**changes)).operators]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kernel_size": 7, "expansion": 6.0, "stride": 2, "height": 7, "width": 9},
        {"expansion": 1.0},
        SAME,
        {**SAME, "op": "identity", "kernel_size": 0, "expansion": 0.0},
        {"mid_channels": 40, "se": True},
        {"activation": "h_swish", "se": True, "se_channels": 16},
        {"expansion": None, "mid_channels": 48},
    ],
)
def test_a_row_that_is_a_block_of_ours_has_its_features(changes: dict[str, object]) -> None:
    record = a_record(latency_ms=1.0, **changes)
    entries, _ = published_entries({1: to_csv_records([record])[0]}, "t")
    block = entries[1][0][0][0]
    assert isinstance(block, Block)
    assert np.array_equal(features([published_shape(record)]), features([block]))


def test_operators_of_an_mbconv_by_hand() -> None:
    # 16 -> 48 -> 24 channels; 2x3 pixels in, 1x2 out
    found = published_shape(a_record(height=2, width=3, stride=2)).operators
    assert found == (
        Operator("pointwise", 16 * 48 * 6, 16 * 48, 16 * 6, 48 * 6),
        Operator("norm", 0, 96, 48 * 6, 48 * 6),
        Operator("activation", 0, 0, 48 * 6, 48 * 6),
        Operator("depthwise", 48 * 9 * 2, 48 * 9, 48 * 6, 48 * 2),
        Operator("norm", 0, 96, 48 * 2, 48 * 2),
        Operator("activation", 0, 0, 48 * 2, 48 * 2),
        Operator("pointwise", 48 * 24 * 2, 48 * 24, 48 * 2, 24 * 2),
        Operator("norm", 0, 48, 24 * 2, 24 * 2),
    )


def test_what_no_block_of_ours_has() -> None:
    # grouped: each 1x1 convolution is two of half the channels, a quarter of the arithmetic each
    grouped = published_shape(a_record(height=1, width=1, pw_groups=2))
    assert [op for op in grouped.operators if op.kind == "pointwise"] == [
        *[Operator("pointwise", 16 * 48 // 4, 16 * 48 // 4, 8, 24)] * 2,
        *[Operator("pointwise", 48 * 24 // 4, 48 * 24 // 4, 24, 12)] * 2,
    ]
    # swish is a sigmoid and a multiplication, which reads both
    (first, second) = [
        op for op in published_shape(a_record(activation="swish")).operators if op.kind == "activation"
    ][:2]
    assert second.read == 2 * first.read and second.written == first.written
    squeezed = published_shape(a_record(se=True, se_channels=4))
    assert [op.parameters for op in squeezed.operators if op.kind == "dense"] == [48 * 4 + 4, 48 * 4 + 48]
    always = published_shape(a_record(expansion=1.0), always_expands=True)
    assert kinds(expansion=1.0).count("pointwise") == 1
    assert [op.kind for op in always.operators].count("pointwise") == 2


def test_the_batch_does_not_matter() -> None:
    assert published_shape(a_record(batch=8)) == published_shape(a_record())


def test_a_shape_prints_as_a_block_with_more_behind_it() -> None:
    assert str(published_shape(a_record(**SAME))) == "mb_k3_e3_skip 16->16 14x14"
    odd = a_record(mid_channels=40, se_channels=8, activation="swish", pw_groups=2, stride=2)
    assert str(published_shape(odd)) == "mb_k3_e2.5 16->24 14x14 /2 (se 8, groups 2, swish)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 0, "mid_channels": 8}, "got 0->24 channels, 14x14, stride 1: expected 1 to 65536"),
        ({"height": None}, "got 16->24 channels, 0x14, stride 1"),
        ({"stride": -1}, "stride -1: expected 1 to 65536"),
        ({"kernel_size": 0}, "got kernel size 0, 48 channels in the middle, 1 groups"),
        ({"height": 1 << 40}, "1099511627776x14, stride 1: expected 1 to 65536"),
        ({"se_channels": -2}, r"-2 squeezed channels: expected 1 \(squeezed: 0\) to 4194304"),
        ({"pw_groups": 65}, "65 groups, 0 squeezed channels: .* and at most 64 groups"),
        ({"mid_channels": -3}, "got kernel size 3, -3 channels in the middle"),
    ],
)
def test_cells_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        published_shape({**a_record(), **changes})


NUMBERS = st.none() | st.integers(-3, 1 << 60) | st.floats()


@given(st.dictionaries(st.sampled_from(sorted(a_record())), NUMBERS))
def test_no_cell_brings_it_down(changes: dict[str, Any]) -> None:
    with suppress(TypeError, ValueError, ArithmeticError):
        shape = published_shape(a_record() | changes | {"op": "mbconv"})
        assert np.isfinite(features([shape])).all()
