"""A link as it was measured between two agents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jmsnas.deploy.transport.link_probe import fit_latency_line


@dataclass(frozen=True, slots=True)
class MeasuredLink:
    """A link between neighbours, as a request sees it: seconds = a_s + b_s * bytes.

    `offset_ns` is the target's clock less the source's, `round_trip_ns` bounds its error; `sizes` and
    `medians_s` are what the line was fitted to.
    """

    source: str
    target: str
    a_s: float
    b_s: float
    offset_ns: int
    round_trip_ns: int
    sizes: tuple[int, ...]
    medians_s: tuple[float, ...]

    @property
    def capacity_bps(self) -> float:
        """Bits a second; as good as endless where bytes cost nothing."""
        return 8 / self.b_s if self.b_s > 0 else 1e15

    def epsilon_s(self, sent_bytes: float) -> float:
        """Seconds to send so many bytes: between measured sizes on the line from one to the next, else a + b.

        A shaped link lets the first bytes pass free, and its times are on no single line.
        """
        if self.sizes and self.sizes[0] <= sent_bytes <= self.sizes[-1]:
            return float(np.interp(sent_bytes, self.sizes, self.medians_s))
        return max(0.0, self.a_s + self.b_s * sent_bytes)

    def at(self, sent_bytes: int, seconds: float) -> "MeasuredLink":
        """Give the link with what was seen at a size in the place of what was measured there."""
        points = {**dict(zip(self.sizes, self.medians_s, strict=True)), sent_bytes: seconds}
        sizes, medians_s = zip(*sorted(points.items()), strict=True)
        return replace(self, sizes=sizes, medians_s=medians_s)


def fit_measured_link(
    pair: tuple[str, str],
    sizes: Sequence[int],
    arrival_ns: Sequence[Sequence[int]],
    clock: Mapping[str, Any],
    same: bool,
) -> MeasuredLink:
    """Make a link of what was measured.

    Parameters
    ----------
    pair
        Source and target.
    sizes, arrival_ns
        Bytes, and a row of arrival less departure for each round.
    clock
        `offset_ns` and `round_trip_ns` of the two clocks.
    same
        Whether the two are one start of one host: it has one steady clock, and nothing is estimated.
    """
    offset_ns, round_trip_ns = (0, 0) if same else (int(clock["offset_ns"]), int(clock["round_trip_ns"]))
    medians = [max(1e-7, float(ns - offset_ns) * 1e-9) for ns in np.median(arrival_ns, axis=0)]
    a_s, b_s = fit_latency_line(sizes, medians)
    return MeasuredLink(*pair, a_s, b_s, offset_ns, round_trip_ns, tuple(sizes), tuple(medians))
