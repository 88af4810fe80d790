"""T of a plan piece by piece: the addends of equation (1), or of (2) with branches side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.nas.graph.fork_join import MeshTree
from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.topology import WIRE_BYTES, Link


@dataclass(frozen=True, slots=True)
class ScheduledTerm:
    """Seconds that a device computes, or that a transfer takes.

    Attributes
    ----------
    symbol
        As in the paper: `tau_D^2`, `eps^1`, `eps^{2->3}`; `back` for the result's way to the first device.
    device, target
        Who computes or sends; `target` is empty where it computes.
    layers
        Numbers from 1 of what is computed.
    start_s
        When it begins, counted from the raw input.
    link
        What it is sent over; None where it computes, or goes back over several.
    lane
        Which of the branches side by side it belongs to; None before and behind them.
    counts
        Whether it is an addend of T: of the branches only the slowest is.
    """

    symbol: str
    device: str
    target: str
    layers: tuple[int, ...]
    start_s: float
    seconds: float
    sent_bytes: float = 0.0
    link: Link | None = None
    lane: int | None = None
    counts: bool = True

    @property
    def end_s(self) -> float:
        """When it ends."""
        return self.start_s + self.seconds


def shares(
    terms: Sequence[LatencyTerm],
    links: Sequence[Link],
    tree: MeshTree | None = None,
    forked_elements: int = 0,
) -> tuple[ScheduledTerm, ...]:
    """Lay out the terms of a plan in time.

    Parameters
    ----------
    terms
        One a device, in the network's order.
    tree
        Of a mesh: its children's terms are branches.
    forked_elements
        Numbers in what the root of the tree sends to each child.

    Raises
    ------
    KeyError
        When a link is missing.
    """
    hops, found, at_s = {(link.source, link.target): link for link in links}, list[ScheduledTerm](), 0.0
    children = tree.children if tree else ()
    line = [(m, term) for m, term in enumerate(terms, 1) if term.device not in children]
    for (m, term), after in zip(line, [*(term.device for _, term in line[1:]), ""], strict=True):
        found.append(ScheduledTerm(f"tau_D^{m}", term.device, "", term.layers, at_s, term.tau_s))
        at_s += term.tau_s
        if tree and term.device == tree.root:
            found += _branches(terms, m, after, at_s, hops, children, forked_elements)
            at_s = max((share.end_s for share in found), default=at_s)
        elif after:
            link = hops[term.device, after]
            found.append(
                ScheduledTerm(f"eps^{m}", term.device, after, (), at_s, term.epsilon_s, term.sent_bytes, link)
            )
            at_s += term.epsilon_s
    back = next((term for term in terms if term.return_s), None)
    if back:
        found.append(ScheduledTerm("back", back.device, terms[0].device, (), at_s, back.return_s))
    return tuple(found)


def _branches(
    terms: Sequence[LatencyTerm],
    root: int,
    behind: str,
    at_s: float,
    hops: dict[tuple[str, str], Link],
    children: Sequence[str],
    forked_elements: int,
) -> list[ScheduledTerm]:
    """Lay out each branch: sent to its child (serial: after the copies before it), run, joined."""
    used = [(m, term) for m, term in enumerate(terms, 1) if term.device in children and term.layers]
    ends = [term.epsilon_root_s + term.tau_s + term.epsilon_s for _, term in used]
    found = []
    for lane, (m, term) in enumerate(used):
        slowest = lane == ends.index(max(ends))
        to, on = hops[terms[root - 1].device, term.device], hops[term.device, behind]
        sent, begun_s = float(forked_elements * WIRE_BYTES[to.wire]), at_s + term.epsilon_root_s
        found += [
            ScheduledTerm(
                f"eps^{{{root}->{m}}}", to.source, term.device, (), at_s, term.epsilon_root_s, sent, to,
                lane, slowest,
            ),
            ScheduledTerm(
                f"tau_D^{m}", term.device, "", term.layers, begun_s, term.tau_s, lane=lane, counts=slowest
            ),
            ScheduledTerm(
                f"eps^{m}", term.device, behind, (), begun_s + term.tau_s, term.epsilon_s, term.sent_bytes,
                on, lane, slowest,
            ),
        ]  # fmt: skip
    return found
