"""Measure a link between neighbours as a request sees it, and the offset of their clocks.

Clocks: the exchange that took least time puts the other's clock at most half of that off (as NTP does).
Links: seconds from packing a message to its arrival, fitted by a + b * bytes.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jmsnas.deploy.transport.encoding import encode_tensor, raw_bytes
from jmsnas.deploy.transport.frame import TensorHeader, pack_tensor, unpack_message

_CLOCK_EXCHANGES = 40
_TIMEOUT_S = 20.0
_NO_ID = "0" * 32
_SMALL = np.zeros(1, np.float32)


def measure_link(method: Any, sizes: Sequence[int], clock: bool) -> dict[str, Any]:
    """Send one message of each size to a neighbour.

    Parameters
    ----------
    method
        The neighbour's `Exchange`, bytes in and bytes out.
    sizes
        Bytes of the tensors.
    clock
        Whether to compare the clocks too, by 40 small messages.

    Returns
    -------
    `arrival_ns`: for each size arrival less departure, each by its own clock; with `clock` also `offset_ns`
    (the neighbour's clock less this one) and `round_trip_ns` (least).
    """
    found: dict[str, Any] = {}
    if clock:
        exchanges = [timed_exchange(method) for _ in range(_CLOCK_EXCHANGES)]
        found["offset_ns"], found["round_trip_ns"] = clock_offset(exchanges)
    taken = [timed_exchange(method, np.zeros(max(1, size // 4), np.float32)) for size in sizes]
    found["arrival_ns"] = [arrived - sent for sent, arrived, _, _ in taken]
    return found


def timed_exchange(method: Any, x: NDArray[np.float32] = _SMALL) -> tuple[int, int, int, int]:
    """Send a tensor: (sent, arrived, answered, back) in ns, the middle two by the other's clock."""
    sent = time.monotonic_ns()
    values, scale, zero = encode_tensor(x, "f4")
    message = pack_tensor(TensorHeader(_NO_ID, 0, "f4", x.shape, scale, zero), raw_bytes(values))
    fields, _ = unpack_message(method(message, timeout=_TIMEOUT_S))
    return sent, int(fields["received"]), int(fields["sent"]), time.monotonic_ns()


def clock_offset(exchanges: Sequence[tuple[int, int, int, int]]) -> tuple[int, int]:
    """Offset of the other's clock and the least round trip, ns, from (sent, arrived, answered, back)."""
    sent, arrived, answered, back = min(exchanges, key=lambda e: (e[3] - e[0]) - (e[2] - e[1]))
    return ((arrived - sent) + (answered - back)) // 2, (back - sent) - (answered - arrived)


def fit_latency_line(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Fit seconds = a + b * bytes by least squares of relative errors, b not below 0; (a, b)."""
    x, y = np.asarray(sizes, dtype=float), np.maximum(np.asarray(seconds, dtype=float), 1e-7)
    if len(set(x.tolist())) < 2:
        return float(np.median(y)), 0.0
    columns: NDArray[np.float64] = np.stack([1 / y, x / y], axis=1)
    (a, b), *_ = np.linalg.lstsq(columns, np.ones(len(y)), rcond=None)
    if b < 0:
        return float(1 / np.mean(1 / y)), 0.0
    return float(a), float(b)
