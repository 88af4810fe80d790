"""Encode tensors for a link: float32, float16, or uint8 with one scale and zero for each tensor."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jmsnas.arrays import Float32Array
from jmsnas.deploy.transport.frame import DTYPES, TensorSpec, WireDtype
from jmsnas.errors import FrameError

WIRE_DTYPES: dict[str, WireDtype] = {"float32": "f4", "float16": "f2", "uint8": "u1"}
_NUMPY: dict[str, np.dtype[Any]] = {name: np.dtype(f"<{name}") for name in DTYPES}
_LARGEST_HALF = 65504.0


def encode_tensor(
    x: Float32Array, dtype: str, scale: float = 0.0, zero: float = 0.0
) -> tuple[NDArray[np.generic], float, float]:
    """Encode a tensor in the number format of a link.

    `dtype` is `f4`; `f2`, clipped to the largest half float; or `u1`: `scale * value + zero`, where a scale
    of 0 uses the range of the tensor. Returns the encoded numbers, scale and zero. Raises FrameError for a
    number that is not finite in uint8.
    """
    if dtype == "f4":
        return np.ascontiguousarray(x, _NUMPY["f4"]), 1.0, 0.0
    if dtype == "f2":
        return np.clip(x, -_LARGEST_HALF, _LARGEST_HALF).astype("<f2"), 1.0, 0.0
    low, high = float(x.min()), float(x.max())
    if not np.isfinite((low, high)).all():
        raise FrameError("a tensor with a number that is not finite cannot be sent as uint8")
    if scale == 0.0:
        scale, zero = (high - low) / 255 or 1.0, low
    with np.errstate(all="ignore"):
        return np.clip(np.rint((x - zero) / scale), 0, 255).astype("u1"), scale, zero


def raw_bytes(values: NDArray[np.generic]) -> memoryview:
    """Return the bytes of a contiguous array without a copy."""
    return values.reshape(-1).view(_NUMPY["u1"]).data


def decode_tensor(tensor: TensorSpec, body: bytes | memoryview) -> Float32Array:
    """Decode a tensor from `encode_tensor`; the result may share memory with `body`, and is read-only."""
    values: NDArray[Any] = np.frombuffer(body, _NUMPY[tensor.dtype]).reshape(tensor.shape)
    if tensor.dtype == "f4" and tensor.scale == 1.0 and tensor.zero == 0.0:
        return values.astype(np.float32, copy=False)
    # Scales of another device: a warning would show a path, and results that are not finite are refused.
    with np.errstate(all="ignore"):
        return values.astype(np.float32) * np.float32(tensor.scale) + np.float32(tensor.zero)
