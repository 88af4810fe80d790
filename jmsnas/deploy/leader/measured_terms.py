"""Prediction beside measurement: each term of equations (1) and (2), from what the answers' trails say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.deploy.leader.leader import Response
from jmsnas.deploy.transport.frame import DeviceSpan
from jmsnas.deploy.transport.link import MeasuredLink

Links = Mapping[tuple[str, str], MeasuredLink]


@dataclass(frozen=True, slots=True)
class MeasuredTerm:
    """One term: `compute` on a device, `send` over a link, or `wait` for the processor, which (1) has not.

    `predicted_s` is None for what is not predicted; `held` says that an emulated device or link was held
    back, so that the figure is no measurement and enters no error.
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
        """Measured over predicted; None where there is nothing to compare."""
        return self.measured_s / self.predicted_s if self.predicted_s and not self.held else None


def measured_term(
    kind: str, where: str, predicted_s: float | None, seconds: NDArray[np.float64], held: bool = False
) -> MeasuredTerm:
    """Make a term from what each request took: median, 5th and 95th percentile."""
    low, median, high = (float(q) for q in np.quantile(seconds, (0.05, 0.5, 0.95)))
    return MeasuredTerm(kind, where, predicted_s, median, low, high, held)


HopTiming = tuple[str, str, float, float, float, float]
"""Source, device; sent, received, begun, ended: seconds since the first device had the image."""


def hop_timings(trail: Sequence[DeviceSpan], links: Links) -> list[HopTiming]:
    """Read a trail, one leg for each stop; the first has no source.

    Clocks of neighbours are set right by the offsets of their links. On a mesh the trail goes once over each
    branch: a child's stop is followed by that of the device where branches are joined.
    """
    found, offset_ns = [], {trail[0][0]: 0}
    last = {trail[0][0]: trail[0]}
    origin = trail[0][1]
    for n, (device, received, begun, ended) in enumerate(trail):
        source = "" if n == 0 else _source(trail, n, links)
        if source:
            offset_ns[device] = offset_ns[source] + links[source, device].offset_ns
        own = offset_ns[device] + origin
        sent = (last[source][3] - offset_ns[source] - origin) * 1e-9 if source else 0.0
        last[device] = trail[n]
        found.append(
            (source, device, sent, (received - own) * 1e-9, (begun - own) * 1e-9, (ended - own) * 1e-9)
        )
    return found


def _source(trail: Sequence[DeviceSpan], n: int, links: Links) -> str:
    """Whose output came to stop n: the nearest stop before it that has a link there."""
    for stop in reversed(trail[:n]):
        if (stop[0], trail[n][0]) in links:
            return stop[0]
    raise KeyError(trail[n][0])


def measured_latency_s(answer: Response, links: Links) -> float:
    """T as equations (1) and (2) count it: from the image's arrival at the first device to the result."""
    return max(leg[5] for leg in hop_timings(answer.trail, links))


def measured_terms(
    answers: Sequence[Response],
    links: Links,
    tau_s: Mapping[str, float],
    epsilon_s: Mapping[tuple[str, str], float],
    held: Sequence[str] = (),
    paced: Sequence[tuple[str, str]] = (),
) -> tuple[MeasuredTerm, ...]:
    """Give each term's median over the answers, beside what was predicted, in the order of the first trail.

    Parameters
    ----------
    answers
        Of one plan.
    links
        As measured.
    tau_s, epsilon_s
        Predicted, by device and by link.
    held, paced
        Devices and links that were held back.
    """
    all_legs = [hop_timings(answer.trail, links) for answer in answers]
    seen: dict[str, None] = {}
    terms: list[MeasuredTerm] = []
    for n, (source, device, *_) in enumerate(all_legs[0]):
        rows = np.array([found[n][2:] for found in all_legs])
        if source:
            predicted = epsilon_s.get((source, device))
            where = f"{source} -> {device}"
            terms.append(
                measured_term("send", where, predicted, rows[:, 1] - rows[:, 0], (source, device) in paced)
            )
        if device not in seen:
            seen[device] = None
            # At a join the wait of the branch that came last: the others waited for it.
            own = [[leg for leg in found if leg[1] == device] for found in all_legs]
            waited = np.array([min(leg[4] - leg[3] for leg in found) for found in own])
            terms.append(measured_term("wait", device, None, waited))
            terms.append(
                measured_term("compute", device, tau_s.get(device), rows[:, 3] - rows[:, 2], device in held)
            )
    return tuple(terms)
