import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_latencies import table

from jmsnas.errors import EstimatorError
from jmsnas.estimators.regression.conformal import LEVELS, conformal_margins, half_widths, training_range
from jmsnas.estimators.regression.features import features
from jmsnas.space import IDENTITY, Block, Candidate, Layer

# 19 errors of 0.1, 0.2, ... 1.9 are too few for a level of their own, 20 are not.
TWENTY = tuple(n / 10 for n in range(1, 21))


def at(c: int, out: int, size: int, k: int = 3, e: int = 3) -> np.ndarray:
    return features([Block(Candidate(k, e), Layer(c, out, 1 if c == out else 2, size, size))])


def test_levels_are_known_geometry_new_geometry_new_channels() -> None:
    seen = training_range(np.concatenate([at(8, 8, 4), at(8, 16, 4)]))
    inputs = np.concatenate([at(8, 8, 4, k=5), at(8, 8, 8), at(16, 8, 4), at(8, 16, 4)])
    assert [LEVELS[n] for n in seen.level(inputs)] == [
        "known geometry", "new geometry", "new channels", "known geometry"
    ]  # fmt: skip


def test_doublings_beyond_the_table() -> None:
    seen = training_range(np.concatenate([at(8, 8, 4), at(16, 16, 8, k=5, e=6)]))
    # Within the range of each size nothing is beyond, off the grid or not.
    assert seen.doublings(at(12, 12, 6, k=5, e=4)).tolist() == [0]
    # 32 channels in and out are twice 16; at expansion 6 the middle, 192, is twice 96 too: 3 doublings.
    assert seen.doublings(at(32, 32, 8, e=6)) == pytest.approx([3])
    # A quarter of the pixels, half of the channels in, out and between (12 = 24 / 2): 2 + 3.
    assert seen.doublings(at(4, 4, 2)) == pytest.approx([5])
    assert seen.widening(at(4, 4, 2)) == pytest.approx([1 + 0.5 * 5])
    assert seen.doublings(table()[:0]).shape == (0,)


def test_a_block_smaller_than_any_is_beyond_though_each_of_its_sizes_is_in_range() -> None:
    few_on_many, many_on_few = at(8, 8, 32), at(64, 64, 4)
    seen = training_range(np.concatenate([few_on_many, many_on_few]))
    # 24 channels in the middle: 8 * 24 + 24 * 9 + 24 * 8 = 600 MACs a pixel; 64 times as many pixels as 4x4.
    # 192 in the middle: 64 * 192 * 2 + 192 * 9 = 26304 a pixel. So 600 * 1024 beside 26304 * 16: the least is
    # 420864, and 8 channels on 4x4 have 9600.
    assert seen.doublings(at(8, 8, 4)) == pytest.approx([math.log2(420864 / 9600)])
    # 64 channels on 32x32: 26304 * 1024 beside the most, 614400.
    assert seen.doublings(at(64, 64, 32)) == pytest.approx([math.log2(26304 * 1024 / 614400)])
    # What does nothing has no work to be too little.
    identity = features([Block(IDENTITY, Layer(8, 8, 1, 4, 4))])
    assert np.isfinite(seen.doublings(identity)).all()
    assert training_range(np.concatenate([few_on_many, identity])).doublings(few_on_many).tolist() == [0]
    assert training_range(identity).doublings(identity).tolist() == [0]


def test_margins_are_conformal_ranks() -> None:
    # Twenty: ceil(21 * 0.9) = 19th, ceil(21 * 0.5) = 11th; ceil(21 * 0.99) = 21 > 20: the largest.
    assert conformal_margins((TWENTY, TWENTY, TWENTY), 0.9).tolist() == [1.9] * 3
    assert conformal_margins((TWENTY, TWENTY, TWENTY), 0.5).tolist() == [1.1] * 3
    assert conformal_margins((TWENTY, TWENTY, TWENTY), 0.99).tolist() == [2.0] * 3


def test_a_level_of_few_errors_takes_those_of_the_next() -> None:
    # Nineteen of the first are too few; the second has its twenty.
    assert conformal_margins((TWENTY[:19], TWENTY, ()), 0.9)[0] == 1.9
    # Nothing has enough: all together, 10 errors, ceil(11 * 0.9) = 10th.
    assert conformal_margins((TWENTY[:4], TWENTY[4:10], ()), 0.9).tolist() == [1.0] * 3


def test_no_level_is_surer_than_the_one_before() -> None:
    small = tuple(error / 10 for error in TWENTY)
    assert conformal_margins((TWENTY, small, TWENTY), 0.9).tolist() == [1.9] * 3


@given(
    st.tuples(*[st.lists(st.floats(0, 100), max_size=40)] * 3).filter(any),
    st.floats(0.01, 0.98),
    st.floats(0.001, 0.01),
)
def test_margins_never_fall_by_level_or_by_coverage(
    errors: tuple[list[float], ...], coverage: float, more: float
) -> None:
    levels = tuple(tuple(sorted(level)) for level in errors)
    margins = conformal_margins(levels, coverage)
    assert (np.diff(margins) >= 0).all() and (margins >= 0).all()
    assert (conformal_margins(levels, coverage + more) >= margins).all()


@pytest.mark.parametrize("coverage", [0, 1, -0.5, math.nan])
def test_a_share_that_is_none_is_refused(coverage: float) -> None:
    with pytest.raises(EstimatorError, match="coverage must be more than 0 and less than 1, as in 0.9, got"):
        conformal_margins((TWENTY, (), ()), coverage)


def test_half_widths_grow_outside_and_have_an_end() -> None:
    seen, margins = training_range(at(8, 8, 4)), np.array([0.1, 0.2, 0.4])
    assert half_widths(at(8, 8, 4), seen, margins) == pytest.approx([0.1])
    # 8x8 instead of 4x4: two doublings of pixels, the level of a new geometry.
    assert half_widths(at(8, 8, 8), seen, margins) == pytest.approx([0.2 * 2])
    assert half_widths(at(4096, 4096, 1), seen, np.array([9.0] * 3)).tolist() == [14.0]
