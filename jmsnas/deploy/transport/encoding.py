"""Number formats on a link: float32 as it is, float16, or uint8 with one scale and zero a tensor."""

import numpy as np
from numpy.typing import NDArray

from jmsnas.deploy.transport.frame import TensorHeader
from jmsnas.errors import FrameError

Array = NDArray[np.float32]
WIRE_DTYPES = {"float32": "f4", "float16": "f2", "uint8": "u1"}
_NUMPY = {"f4": "<f4", "f2": "<f2", "u1": "u1", "i8": "<i8"}
_LARGEST_HALF = 65504.0


def encode_tensor(
    x: Array, dtype: str, scale: float = 0.0, zero: float = 0.0
) -> tuple[NDArray[np.generic], float, float]:
    """Encode a tensor for a link.

    Parameters
    ----------
    x
        float32, any shape.
    dtype
        `f4`; `f2`, where what is beyond the largest half float becomes it; `u1`.
    scale, zero
        Of `u1`: `scale * value + zero`. A scale of 0 takes the tensor's own least and largest number.

    Returns
    -------
    The numbers as they travel, scale, zero.

    Raises
    ------
    FrameError
        When a number that is not finite cannot be uint8.
    """
    if dtype == "f4":
        return np.ascontiguousarray(x, "<f4"), 1.0, 0.0
    if dtype == "f2":
        return np.clip(x, -_LARGEST_HALF, _LARGEST_HALF).astype("<f2"), 1.0, 0.0
    low, high = float(x.min()), float(x.max())
    if not np.isfinite((low, high)).all():
        raise FrameError("a tensor with a number that is not finite cannot travel as uint8")
    if scale == 0.0:
        scale, zero = (high - low) / 255 or 1.0, low
    return np.clip(np.rint((x - zero) / scale), 0, 255).astype("u1"), scale, zero


def raw_bytes(values: NDArray[np.generic]) -> memoryview:
    """Give an array's bytes without a copy; it must be contiguous."""
    return values.reshape(-1).view("u1").data


def decode_tensor(header: TensorHeader, body: bytes | memoryview) -> Array:
    """Read what `encode` gave; the result may share memory with `body` and is not to be written to."""
    values = np.frombuffer(body, _NUMPY[header.dtype]).reshape(header.shape)
    if header.dtype == "f4" and (header.scale, header.zero) == (1.0, 0.0):
        return values.astype(np.float32, copy=False)
    return values.astype(np.float32) * np.float32(header.scale) + np.float32(header.zero)
