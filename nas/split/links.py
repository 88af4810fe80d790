"""Links between M devices as arrays, and the fastest routes over them.

Sending b bytes from device a to b takes epsilon = delay_MM[a, b] + b * per_byte_MM[a, b] seconds; both are
infinite where there is no link. Data routed over several links is stored and forwarded at each device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, floyd_warshall

from jmsnas.arrays import FloatArray
from jmsnas.errors import TopologyError
from jmsnas.topology import WIRE_BYTES, Link


@dataclass(frozen=True, slots=True)
class LinkArrays:
    """Delay and seconds per byte of every link; the diagonal is 0 (a device sends nothing to itself).

    `delay_MM`: seconds before the first byte; `per_byte_MM`: seconds per byte of an output counted as
    float32, of which a float16 link takes half; `input_per_byte_MM`: seconds per byte of the raw input, which
    is sent as it is encoded.
    """

    delay_MM: FloatArray
    per_byte_MM: FloatArray
    input_per_byte_MM: FloatArray

    @property
    def M(self) -> int:
        """Number of devices."""
        return len(self.delay_MM)

    def epsilon_MM(self, sent_bytes: float, raw_input: bool = False) -> FloatArray:
        """Seconds to send `sent_bytes` over each single link, (M, M)."""
        per_byte_MM = self.input_per_byte_MM if raw_input else self.per_byte_MM
        linked, epsilon_MM = np.isfinite(self.delay_MM), np.full_like(self.delay_MM, np.inf)
        epsilon_MM[linked] = self.delay_MM[linked] + sent_bytes * per_byte_MM[linked]
        return epsilon_MM

    def routed_MM(self, sent_bytes: float, raw_input: bool = False) -> tuple[FloatArray, NDArray[np.int32]]:
        """Seconds of the fastest route between each pair of devices, and the predecessors on that route."""
        # In a dense array scipy reads values below 1e-8 as "no link", in a sparse one only 0; the smallest
        # positive float changes no sum.
        epsilon_MM = np.maximum(self.epsilon_MM(sent_bytes, raw_input), np.finfo(float).tiny)
        hops = np.nonzero(np.isfinite(self.delay_MM) & ~np.eye(self.M, dtype=bool))
        linked = csr_array((epsilon_MM[hops], hops), shape=(self.M, self.M))
        seconds_MM, before_MM = floyd_warshall(linked, return_predecessors=True)
        return np.where(seconds_MM < 1e-290, 0.0, seconds_MM), before_MM

    def route(self, source: int, target: int, sent_bytes: float, raw_input: bool = False) -> tuple[int, ...]:
        """Devices on the fastest route, `source` and `target` included; empty where there is no route."""
        seconds_MM, before_MM = self.routed_MM(sent_bytes, raw_input)
        if not np.isfinite(seconds_MM[source, target]):
            return ()
        found = [target]
        while found[-1] != source:
            found.append(int(before_MM[source, found[-1]]))
        return tuple(reversed(found))


def link_arrays(devices: Sequence[str], links: Sequence[Link]) -> LinkArrays:
    """Convert links between named devices to arrays.

    Raises TopologyError for a link that starts or ends at an unknown device, or two links with the same ends.
    """
    M = len(devices)
    delay_MM = np.where(np.eye(M, dtype=bool), 0.0, np.inf)
    per_byte_MM, input_per_byte_MM = delay_MM.copy(), delay_MM.copy()
    for link in links:
        for end in (link.source, link.target):
            if end not in devices:
                raise TopologyError(
                    f"link {link.source} -> {link.target} names the unknown device {end}: expected one of "
                    f"{', '.join(devices)}"
                )
        a, b = devices.index(link.source), devices.index(link.target)
        if np.isfinite(delay_MM[a, b]):
            raise TopologyError(
                f"two links {link.source} -> {link.target}: expected one, between two different devices"
            )
        delay_MM[a, b] = link.delay_s
        input_per_byte_MM[a, b] = 8 / link.capacity_bps
        per_byte_MM[a, b] = 8 / link.capacity_bps * WIRE_BYTES[link.wire] / WIRE_BYTES["float32"]
    return LinkArrays(delay_MM, per_byte_MM, input_per_byte_MM)


def refuse_unreachable(links: LinkArrays, devices: Sequence[str], source: int = 0) -> None:
    """Refuse a topology in which a device cannot be reached from `source`.

    Raises TopologyError, naming the unreachable devices.
    """
    linked = csr_array(np.isfinite(links.delay_MM))
    reached = breadth_first_order(linked, source, return_predecessors=False)
    lost = [name for m, name in enumerate(devices) if m not in reached]
    if lost:
        raise TopologyError(
            f"the topology is disconnected: no route leads from {devices[source]} to {', '.join(lost)}. "
            "Add the missing [[link]], or remove these devices"
        )
