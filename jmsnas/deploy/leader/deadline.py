"""Judge the deadline T_const of a run by its deployment: promised and measured T, and what T consists of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jmsnas.deploy.leader.measured_terms import HopTiming, end_s
from jmsnas.nas.derivation.target import LatencyTarget
from jmsnas.units import format_duration as ms


@dataclass(frozen=True, slots=True)
class Percentiles:
    """50th, 95th and 99th percentile over requests, seconds."""

    p50: float
    p95: float
    p99: float

    def __str__(self) -> str:
        """Format all three."""
        return f"p50 {ms(self.p50)}, p95 {ms(self.p95)}, p99 {ms(self.p99)}"


@dataclass(frozen=True, slots=True)
class PathSums:
    """Seconds of computation, transfer and waiting along the path of a request that T consists of.

    `wait_s`: from the arrival of the inputs to the begin of the computation.
    """

    compute_s: float
    send_s: float
    wait_s: float


@dataclass(frozen=True, slots=True)
class JudgedDeadline:
    """The deadline of a run, and T of its deployment; seconds.

    Attributes
    ----------
    t_const_s, promised_s
        T_const, and T that the search promised.
    percentile, judged_s, met
        Percentile of T that T_const is for, its measured value, and whether it is within T_const.
    latency, round_trip
        T as the equations count it, and the time that the caller waits: there and back.
    sums, rest_s
        Medians over the requests of what T consists of, and what they leave of the median of T.
    emulated
        Whether devices or links were emulated, so that T is no measurement.
    """

    t_const_s: float
    promised_s: float
    percentile: int
    judged_s: float
    met: bool
    latency: Percentiles
    round_trip: Percentiles
    sums: PathSums
    rest_s: float
    emulated: bool

    @property
    def verdict(self) -> str:
        """Whether the deadline was met or missed, and by how much."""
        off_s = abs(self.judged_s - self.t_const_s)
        found, side = ("met", "below") if self.met else ("MISSED", "above")
        note = " (emulated devices or links: no measurement)" if self.emulated else ""
        return (
            f"Deadline {found}: p{self.percentile} of T is {ms(self.judged_s)}, {ms(off_s)} "
            f"({off_s / self.t_const_s:.1%}) {side} T_const = {ms(self.t_const_s)}; the search promised "
            f"T = {ms(self.promised_s)}{note}"
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """The verdict, the percentiles, and the medians of what T consists of."""
        sums = self.sums
        return (
            self.verdict,
            f"T as the equations count it: {self.latency}",
            f"there and back, as the caller waits: {self.round_trip}",
            f"T p50 {ms(self.latency.p50)} = compute {ms(sums.compute_s)} + send {ms(sums.send_s)} "
            f"+ wait and scheduling {ms(sums.wait_s)} + {ms(self.rest_s)} that medians leave",
        )


def judge_deadline(
    target: LatencyTarget,
    promised_s: float,
    requests: Sequence[Sequence[HopTiming]],
    round_trips_s: Sequence[float],
    emulated: bool = False,
) -> JudgedDeadline:
    """Judge the deadline of a search by the timings and round trips of the requests of one plan."""
    latencies_s, sums = [end_s(timings) for timings in requests], [path_sums(own) for own in requests]
    medians = PathSums(
        float(np.median([own.compute_s for own in sums])),
        float(np.median([own.send_s for own in sums])),
        float(np.median([own.wait_s for own in sums])),
    )
    latency, percentile = _percentiles(latencies_s), target.percentile
    judged_s = float(np.quantile(latencies_s, percentile / 100))
    return JudgedDeadline(
        t_const_s=target.deadline_s,
        promised_s=promised_s,
        percentile=percentile,
        judged_s=judged_s,
        met=judged_s <= target.deadline_s,
        latency=latency,
        round_trip=_percentiles(round_trips_s),
        sums=medians,
        rest_s=latency.p50 - medians.compute_s - medians.send_s - medians.wait_s,
        emulated=emulated,
    )


def path_sums(timings: Sequence[HopTiming]) -> PathSums:
    """Sum what T of one request consists of: of parallel branches only the one that arrived last."""
    hop = max(timings, key=lambda own: (own.ended_s, own.received_s))
    compute_s = send_s = wait_s = 0.0
    while True:
        compute_s += hop.ended_s - hop.begun_s
        wait_s += hop.begun_s - hop.received_s
        if not hop.source:
            return PathSums(compute_s, send_s, wait_s)
        send_s += hop.received_s - hop.sent_s
        inputs = [own for own in timings if own.device == hop.source]
        hop = max(inputs, key=lambda own: own.received_s)


def _percentiles(seconds: Sequence[float]) -> Percentiles:
    return Percentiles(*(float(np.quantile(seconds, q)) for q in (0.5, 0.95, 0.99)))
