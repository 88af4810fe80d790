"""Schedule of the terms of equation (1) or (2): start and duration of each computation and transfer."""

from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.nas.graph.fork_join import MeshTree
from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.topology import WIRE_BYTES, Link


@dataclass(frozen=True, slots=True)
class ScheduledTerm:
    """A computation or a transfer with its start and duration.

    Attributes
    ----------
    symbol
        Symbol of the paper: `tau_D^2`, `eps^1`, `eps^{2->3}`; `back` for the return of the result.
    device, target
        Computing or sending device; `target` is empty for a computation.
    layers
        Numbers, from 1, of the computed layers.
    start_s
        Start in seconds since the raw input.
    link
        Link of a transfer; None for a computation or the return of the result.
    branch
        Index of its parallel branch; None outside of branches.
    critical
        Whether it is an addend of T: of the branches only the slowest is.
    call_s
        Seconds of the call, within those of a computation.
    """

    symbol: str
    device: str
    target: str
    layers: tuple[int, ...]
    start_s: float
    seconds: float
    sent_bytes: float = 0.0
    link: Link | None = None
    branch: int | None = None
    critical: bool = True
    call_s: float = 0.0

    @property
    def end_s(self) -> float:
        """End in seconds since the raw input."""
        return self.start_s + self.seconds


def schedule_terms(
    terms: Sequence[LatencyTerm],
    links: Sequence[Link],
    tree: MeshTree | None = None,
    forked_elements: int = 0,
) -> tuple[ScheduledTerm, ...]:
    """Schedule the terms of a placed model.

    Parameters
    ----------
    terms
        One for each device, in the order of the topology.
    tree
        Tree of a mesh: the terms of its children are branches.
    forked_elements
        Number of elements that the root of the tree sends to each child.

    Raises
    ------
    KeyError
        When a link is missing.
    """
    hops, schedule, at_s = {(link.source, link.target): link for link in links}, list[ScheduledTerm](), 0.0
    children = tree.children if tree else ()
    main_path = [(m, term) for m, term in enumerate(terms, 1) if term.device not in children]
    for (m, term), after in zip(main_path, [*(term.device for _, term in main_path[1:]), ""], strict=True):
        run_s, call_s = term.tau_s + term.call_s, term.call_s
        schedule.append(ScheduledTerm(f"tau_D^{m}", term.device, "", term.layers, at_s, run_s, call_s=call_s))
        at_s += run_s
        if tree and term.device == tree.root:
            schedule += _branches(terms, m, after, at_s, hops, children, forked_elements)
            at_s = max(term.end_s for term in schedule)
        elif after:
            link = hops[term.device, after]
            schedule.append(
                ScheduledTerm(f"eps^{m}", term.device, after, (), at_s, term.epsilon_s, term.sent_bytes, link)
            )
            at_s += term.epsilon_s
    back = next((term for term in terms if term.return_s), None)
    if back:
        schedule.append(ScheduledTerm("back", back.device, terms[0].device, (), at_s, back.return_s))
    return tuple(schedule)


def _branches(
    terms: Sequence[LatencyTerm],
    root: int,
    join: str,
    at_s: float,
    hops: dict[tuple[str, str], Link],
    children: Sequence[str],
    forked_elements: int,
) -> list[ScheduledTerm]:
    """Schedule each branch: transfer to its child (after earlier copies if serial), computation, join."""
    used = [(m, term) for m, term in enumerate(terms, 1) if term.device in children and term.layers]
    ends = [term.epsilon_root_s + term.tau_s + term.call_s + term.epsilon_s for _, term in used]
    schedule = []
    for branch, (m, term) in enumerate(used):
        slowest = branch == ends.index(max(ends))
        to, on = hops[terms[root - 1].device, term.device], hops[term.device, join]
        sent, begun_s = float(forked_elements * WIRE_BYTES[to.wire]), at_s + term.epsilon_root_s
        run_s = term.tau_s + term.call_s
        schedule += [
            ScheduledTerm(
                f"eps^{{{root}->{m}}}", to.source, term.device, (), at_s, term.epsilon_root_s, sent, to,
                branch, slowest,
            ),
            ScheduledTerm(
                f"tau_D^{m}", term.device, "", term.layers, begun_s, run_s, branch=branch,
                critical=slowest, call_s=term.call_s,
            ),
            ScheduledTerm(
                f"eps^{m}", term.device, join, (), begun_s + run_s, term.epsilon_s, term.sent_bytes,
                on, branch, slowest,
            ),
        ]  # fmt: skip
    return schedule
