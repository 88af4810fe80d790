import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.deploy.transport.encoding import decode_tensor, encode_tensor
from jmsnas.deploy.transport.frame import TensorSpec
from jmsnas.errors import FrameError


def back(x: np.ndarray, dtype: str, scale: float = 0.0, zero: float = 0.0) -> np.ndarray:
    values, scale, zero = encode_tensor(x, dtype, scale, zero)
    return decode_tensor(TensorSpec(dtype, x.shape, scale, zero), values.tobytes())


numbers = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=30)


@given(numbers)
def test_float32_is_exact(values: list[float]) -> None:
    x = np.array(values, np.float32)
    assert back(x, "f4").tobytes() == x.tobytes()


@given(numbers)
def test_uint8_error_is_at_most_half_a_step(values: list[float]) -> None:
    x = np.array(values, np.float32)
    step = (float(x.max()) - float(x.min())) / 255
    # Half a step, and the rounding of float32 at that size.
    assert np.abs(back(x, "u1") - x).max() <= step / 2 + 1e-6 * np.abs(x).max() + 1e-12


def test_given_scale_and_zero_are_exact_on_their_grid() -> None:
    # 17 grey values from -1 to 1 in steps of 1/8.
    x = np.arange(17, dtype=np.float32) / 8 - 1
    np.testing.assert_array_equal(back(x, "u1", 1 / 8, -1.0), x)


def test_float16_is_clipped() -> None:
    found = back(np.array([1.0, 1e6, -1e6], np.float32), "f2")
    np.testing.assert_array_equal(found, [1.0, 65504.0, -65504.0])


def test_constant_tensor() -> None:
    np.testing.assert_array_equal(back(np.full(3, 7.5, np.float32), "u1"), np.full(3, 7.5))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_uint8_refuses_non_finite_values(value: float) -> None:
    with pytest.raises(FrameError, match="not finite cannot be sent as uint8"):
        encode_tensor(np.array([1.0, value], np.float32), "u1")
    assert not np.isfinite(back(np.array([value], np.float32), "f4")[0])
