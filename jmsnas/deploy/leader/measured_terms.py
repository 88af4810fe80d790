"""Measured terms of equations (1) and (2), compared with their predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.deploy.transport.run_response import DeviceSpan
from jmsnas.errors import DeployError

if TYPE_CHECKING:  # plots of a deployment load without gRPC and torch
    from jmsnas.deploy.leader.leader import Response

# Seconds by which the offset of two clocks may have changed since it was measured.
_DRIFT_S = 0.1
Links = Mapping[tuple[str, str], MeasuredLink]


@dataclass(frozen=True, slots=True)
class MeasuredTerm:
    """One latency term: `compute` on a device, `send` over a link, or `wait` for a busy processor.

    Seconds are the median and the 5th and 95th percentile over requests. `predicted_s` is None for `wait`,
    which equation (1) does not have. `held`: the device or link is emulated, so the term is no measurement
    and enters no error.
    """

    kind: str
    where: str
    predicted_s: float | None
    measured_s: float
    low_s: float
    high_s: float
    held: bool = False

    @property
    def ratio(self) -> float | None:
        """Measured over predicted; None for an emulated term or one without a prediction."""
        return self.measured_s / self.predicted_s if self.predicted_s and not self.held else None


@dataclass(frozen=True, slots=True)
class HopTiming:
    """Timing of a request on one device: seconds since the first device received the image.

    `source` sent the input at `sent_s`; it is empty on the first device.
    """

    source: str
    device: str
    sent_s: float
    received_s: float
    begun_s: float
    ended_s: float


def hop_timings(response: "Response", links: Links) -> list[HopTiming]:
    """Convert a response's trail to seconds of one clock, one entry for each device it lists.

    Clocks of neighbours are corrected by the measured offsets of their links. On a mesh the trail lists one
    branch after the other: an entry of a child is followed by one of the device that joins the branches.

    Raises DeployError for a message that arrives before it was sent, or a device that ends after the response
    was here, by more than clocks can differ.
    """
    timings: list[HopTiming] = []
    trail = response.trail
    first, origin_ns = trail[0].device, trail[0].received_ns
    unknown_s = _DRIFT_S + sum(link.round_trip_ns for link in links.values()) * 1e-9
    offset_ns = {first: 0}
    sent_s = {"": 0.0}
    for n, span in enumerate(trail):
        device = span.device
        source = "" if n == 0 else _source(trail, n, links)
        if source:
            offset_ns[device] = offset_ns[source] + links[source, device].offset_ns
        zero_ns = offset_ns[device] + origin_ns
        received_s, begun_s, ended_s = (
            (ns - zero_ns) * 1e-9 for ns in (span.received_ns, span.started_ns, span.ended_ns)
        )
        if received_s < sent_s[source] - unknown_s or ended_s > response.round_trip_s + unknown_s:
            raise DeployError(
                f"device {device} reports that it received data {received_s - sent_s[source]:.6g} s after "
                f"they were sent and ended {ended_s:.6g} s after the request began, which took "
                f"{response.round_trip_s:.3g} s: run jmsnas deploy again to compare the clocks again"
            )
        timings.append(HopTiming(source, device, sent_s[source], received_s, begun_s, ended_s))
        sent_s[device] = ended_s
    return timings


def _source(trail: Sequence[DeviceSpan], n: int, links: Links) -> str:
    """Return the device that sent the input of entry n: the nearest one before it with a link there."""
    target = trail[n].device
    for span in reversed(trail[:n]):
        if (span.device, target) in links:
            return span.device
    raise KeyError(target)


def end_s(timings: Sequence[HopTiming]) -> float:
    """Return T of one request, seconds: from the arrival of the image at the first device to the result."""
    return max(timing.ended_s for timing in timings)


def measured_latency_s(response: "Response", links: Links) -> float:
    """Return T of a response as equations (1) and (2) count it, seconds."""
    return end_s(hop_timings(response, links))


def measured_terms(
    responses: Sequence["Response"],
    links: Links,
    tau_s: Mapping[str, float],
    epsilon_s: Mapping[tuple[str, str], float],
    held: Sequence[str] = (),
    paced: Sequence[tuple[str, str]] = (),
) -> tuple[MeasuredTerm, ...]:
    """Compute every term's median over the responses of one plan, in the order of the first trail.

    Of `links` only the clock offsets are used; `tau_s` and `epsilon_s` are predicted seconds, by device and
    by link; `held` and `paced` are emulated devices and links.
    """
    requests = [term_seconds(hop_timings(response, links)) for response in responses]
    predicted = {("compute", device): seconds for device, seconds in tau_s.items()}
    predicted |= {("send", f"{a} -> {b}"): seconds for (a, b), seconds in epsilon_s.items()}
    emulated = {("compute", device) for device in held} | {("send", f"{a} -> {b}") for a, b in paced}
    return tuple(
        _term(*key, predicted.get(key), np.array([terms[key] for terms in requests]), key in emulated)
        for key in requests[0]
    )


def term_seconds(timings: Sequence[HopTiming]) -> dict[tuple[str, str], float]:
    """Return the seconds of each term of one request, by kind and place, in the order of its trail.

    Kinds are `send` over a link, `wait` for a busy processor and `compute` on a device.
    """
    terms: dict[tuple[str, str], float] = {}
    for hop in timings:
        if hop.source:
            terms["send", f"{hop.source} -> {hop.device}"] = hop.received_s - hop.sent_s
        if ("compute", hop.device) not in terms:
            # At a join, the wait of the branch that arrived last: the others waited for it.
            own = [timing for timing in timings if timing.device == hop.device]
            terms["wait", hop.device] = min(timing.begun_s - timing.received_s for timing in own)
            terms["compute", hop.device] = hop.ended_s - hop.begun_s
    return terms


def _term(
    kind: str, where: str, predicted_s: float | None, seconds: FloatArray, held: bool = False
) -> MeasuredTerm:
    low, median, high = (float(q) for q in np.quantile(seconds, (0.05, 0.5, 0.95)))
    return MeasuredTerm(kind, where, predicted_s, median, low, high, held)
