"""Every link between M devices as arrays, and the shortest ways through them.

Sending b bytes from device a to b takes epsilon = delay_MM[a, b] + b * per_byte_MM[a, b] seconds; both are
infinite where there is no link. What is sent over several links is stored and forwarded on the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import floyd_warshall

from jmsnas.errors import TopologyError
from jmsnas.topology import WIRE_BYTES, Link

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LinkArrays:
    """Links between devices; the diagonal is 0 (a device sends itself nothing).

    Attributes
    ----------
    delay_MM
        Seconds before the first byte.
    per_byte_MM
        Seconds a byte of an output as float32; what is sent as float16 takes half of it.
    input_per_byte_MM
        Seconds a byte of the raw input, which is sent as it is encoded.
    """

    delay_MM: Array
    per_byte_MM: Array
    input_per_byte_MM: Array

    @property
    def M(self) -> int:
        """Number of devices."""
        return len(self.delay_MM)

    def epsilon_MM(self, sent_bytes: float, raw_input: bool = False) -> Array:
        """Seconds to send so many bytes over each single link, (M, M)."""
        per_byte_MM = self.input_per_byte_MM if raw_input else self.per_byte_MM
        linked, epsilon_MM = np.isfinite(self.delay_MM), np.full_like(self.delay_MM, np.inf)
        epsilon_MM[linked] = self.delay_MM[linked] + sent_bytes * per_byte_MM[linked]
        return epsilon_MM

    def routed_MM(self, sent_bytes: float, raw_input: bool = False) -> tuple[Array, NDArray[np.int32]]:
        """Seconds by the fastest way between each two devices, and the device before each on that way."""
        # Of a dense array scipy takes all below 1e-8 for "no link"; of a sparse one 0 alone, and the least
        # number above it changes no sum.
        epsilon_MM = np.maximum(self.epsilon_MM(sent_bytes, raw_input), np.finfo(float).tiny)
        hops = np.nonzero(np.isfinite(self.delay_MM) & ~np.eye(self.M, dtype=bool))
        linked = csr_array((epsilon_MM[hops], hops), shape=(self.M, self.M))
        seconds_MM, before_MM = floyd_warshall(linked, return_predecessors=True)
        return np.where(seconds_MM < 1e-290, 0.0, seconds_MM), before_MM

    def route(self, source: int, target: int, sent_bytes: float, raw_input: bool = False) -> tuple[int, ...]:
        """Devices on the fastest way, `source` and `target` among them; empty where none leads there."""
        seconds_MM, before_MM = self.routed_MM(sent_bytes, raw_input)
        if not np.isfinite(seconds_MM[source, target]):
            return ()
        found = [target]
        while found[-1] != source:
            found.append(int(before_MM[source, found[-1]]))
        return tuple(reversed(found))


def link_arrays(devices: Sequence[str], links: Sequence[Link]) -> LinkArrays:
    """Make the arrays of links between named devices.

    Raises
    ------
    NetworkError
        For a link from or to a device that is not there, or two of the same ends.
    """
    M = len(devices)
    delay_MM = np.where(np.eye(M, dtype=bool), 0.0, np.inf)
    per_byte_MM, input_per_byte_MM = delay_MM.copy(), delay_MM.copy()
    for link in links:
        for end in (link.source, link.target):
            if end not in devices:
                raise TopologyError(
                    f"link {link.source} -> {link.target} ends at no device: expected {', '.join(devices)}"
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
    """Refuse a device graph that is not connected: every device must be reached from `source`.

    Raises
    ------
    NetworkError
        Naming the devices that no way leads to.
    """
    reached, edge = {source}, [source]
    while edge:
        found = [int(b) for a in edge for b in np.flatnonzero(np.isfinite(links.delay_MM[a]))]
        edge = [b for b in dict.fromkeys(found) if b not in reached]
        reached.update(edge)
    lost = [name for m, name in enumerate(devices) if m not in reached]
    if lost:
        raise TopologyError(
            f"the device graph is disconnected: no way leads from {devices[source]} to {', '.join(lost)}. "
            "Add the missing [[link]], or leave these devices out"
        )
