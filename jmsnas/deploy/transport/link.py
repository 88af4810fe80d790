"""Measured links between agents: transfer times by size, a fitted latency line, and clock offsets.

Clock offset: the exchange with the shortest round trip bounds the error by half of it (as NTP does).
Transfer: seconds from packing a message to its arrival, fitted by a_s + b_s * bytes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jmsnas.arrays import Float32Array, FloatArray
from jmsnas.deploy.transport.data_link import DataLink
from jmsnas.deploy.transport.encoding import encode_tensor, raw_bytes
from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec
from jmsnas.deploy.transport.responses import ExchangeTimes, LinkTimes, malformed
from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import DeployError, FrameError

_CLOCK_EXCHANGES = 40
_TIMEOUT_S = 20.0
_DRIFT_NS = 100_000_000
_SMALL = np.zeros(1, np.float32)


@dataclass(frozen=True, slots=True)
class MeasuredLink:
    """A link between two devices as measured: seconds = a_s + b_s * bytes.

    Attributes
    ----------
    source, target
        Names of the devices.
    a_s, b_s
        The fitted line: seconds, and seconds a byte.
    offset_ns, round_trip_ns
        Clock of the target minus clock of the source, and the bound of its error.
    sizes, medians_s
        The points of the fit: bytes and median seconds.
    rounds_s
        The measured seconds, a row for each round and a column for each size.
    """

    source: str
    target: str
    a_s: float
    b_s: float
    offset_ns: int
    round_trip_ns: int
    sizes: tuple[int, ...]
    medians_s: tuple[float, ...]
    rounds_s: tuple[tuple[float, ...], ...] = ()

    @property
    def capacity_bps(self) -> float:
        """Bits a second; 1e15 where the fitted cost of a byte is 0."""
        return 8 / self.b_s if self.b_s > 0 else 1e15

    def epsilon_s(self, sent_bytes: float) -> float:
        """Seconds to send a message: interpolated between measured sizes, by the fitted line beyond them.

        A traffic-shaped link sends its first bytes at full speed, so that no single line fits its times.
        """
        if self.sizes and self.sizes[0] <= sent_bytes <= self.sizes[-1]:
            return float(np.interp(sent_bytes, self.sizes, self.medians_s))
        return max(0.0, self.a_s + self.b_s * sent_bytes)

    def with_point(self, sent_bytes: int, seconds: float) -> "MeasuredLink":
        """Return the link with the time of one size set, and the fitted line unchanged."""
        points = {**dict(zip(self.sizes, self.medians_s, strict=True)), sent_bytes: seconds}
        sizes, medians_s = zip(*sorted(points.items()), strict=True)
        return replace(self, sizes=sizes, medians_s=medians_s)


def measure_link(link: DataLink, sizes: Sequence[int], clock: bool) -> LinkTimes:
    """Send one tensor of each size, in bytes, to a neighbour, and return the times.

    `clock` measures the clock offset first, by 40 small messages. Raises RequestRefusedError, and DeployError
    for a malformed response of the neighbour.
    """
    offset_ns, round_trip_ns, arrival_ns = 0, 0, []
    if clock:
        exchanges = [timed_exchange(link) for _ in range(_CLOCK_EXCHANGES)]
        offset_ns, round_trip_ns = clock_offset(exchanges)
    for size in sizes:
        sent, arrived, _, _ = timed_exchange(link, np.zeros(max(1, size // 4), np.float32))
        arrival_ns.append(arrived - sent)
    return LinkTimes(tuple(arrival_ns), offset_ns, round_trip_ns)


def timed_exchange(link: DataLink, x: Float32Array = _SMALL) -> tuple[int, int, int, int]:
    """Send a tensor; return (sent, arrived, answered, returned) in ns, two and three by the other clock.

    Raises RequestRefusedError, and DeployError for a malformed response of the device.
    """
    device = link.target.name
    sent = time.monotonic_ns()
    values, scale, zero = encode_tensor(x, "f4")
    tensors = (TensorSpec("f4", x.shape, scale, zero),)
    answer = link.wait(Frame(Kind.EXCHANGE, tensors=tensors, body=raw_bytes(values)), _TIMEOUT_S, 0)()
    returned = time.monotonic_ns()
    try:
        times = decode_json(answer.text, ExchangeTimes, FrameError, "the times of an exchange")
    except FrameError as error:
        raise malformed(device, "Exchange", str(error)) from None
    if not 0 <= times.sent - times.received < returned - sent:
        fault = f"{times.sent - times.received} ns between receipt and response: expected 0 to "
        raise malformed(device, "Exchange", f"{fault}{returned - sent}, the length of the call")
    return sent, times.received, times.sent, returned


def clock_offset(exchanges: Sequence[tuple[int, int, int, int]]) -> tuple[int, int]:
    """Return the other clock's offset and the shortest round trip, ns, from results of `timed_exchange`."""
    sent, arrived, answered, back = min(exchanges, key=lambda e: (e[3] - e[0]) - (e[2] - e[1]))
    return ((arrived - sent) + (answered - back)) // 2, (back - sent) - (answered - arrived)


def fit_latency_line(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Fit seconds = a + b * bytes by least squares of relative errors, b at least 0; return (a, b)."""
    x, y = np.asarray(sizes, dtype=float), np.maximum(np.asarray(seconds, dtype=float), 1e-7)
    if len(set(x.tolist())) < 2:
        return float(np.median(y)), 0.0
    columns: FloatArray = np.stack([1 / y, x / y], axis=1)
    (a, b), *_ = np.linalg.lstsq(columns, np.ones(len(y)), rcond=None)
    if b < 0:
        return float(1 / np.mean(1 / y)), 0.0
    return float(a), float(b)


def fit_measured_link(
    pair: tuple[str, str],
    sizes: Sequence[int],
    arrival_ns: Sequence[Sequence[int]],
    offset_ns: int,
    round_trip_ns: int,
) -> MeasuredLink:
    """Fit the link of a pair (source, target) to the results of `measure_link`.

    `arrival_ns` has a row for each round and a column for each size.
    """
    medians = [max(1e-7, float(ns - offset_ns) * 1e-9) for ns in np.median(arrival_ns, axis=0)]
    rounds_s = tuple(tuple((ns - offset_ns) * 1e-9 for ns in row) for row in arrival_ns)
    a_s, b_s = fit_latency_line(sizes, medians)
    return MeasuredLink(*pair, a_s, b_s, offset_ns, round_trip_ns, tuple(sizes), tuple(medians), rounds_s)


def check_transfer(pair: tuple[str, str], transfer_ns: int, longest_ns: int) -> None:
    """Raise DeployError for a transfer that ended before it began, or took longer than its call.

    `transfer_ns` is by one clock, whose offset drifts by far less than 0.1 s.
    """
    if not -_DRIFT_NS - longest_ns <= transfer_ns <= longest_ns + _DRIFT_NS:
        source, target = pair
        raise DeployError(
            f"device {source} reports {transfer_ns * 1e-9:.6g} s for a message to {target}: expected 0 to "
            f"{longest_ns * 1e-9:.3g} s, the length of the call. Update jmsnas there or here"
        )
