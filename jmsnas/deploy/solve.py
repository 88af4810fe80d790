"""The split for the devices as they are: U(.) of each, and the links as they were measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jmsnas.deploy.measured_link import MeasuredLink
from jmsnas.deploy.plan import Piece, Target
from jmsnas.errors import DeployError
from jmsnas.latency import Branch, completion_latency
from jmsnas.nas.latency_lut import LatencyLUT, Predictor, build_lut, sent_bytes
from jmsnas.nas.mesh_lut import MeshLUT
from jmsnas.nas.placement import Placement
from jmsnas.network import Network
from jmsnas.space import Block, SearchSpace

Links = Mapping[tuple[str, str], MeasuredLink]
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Solved:
    """A split, and what equations (1) and (2) say of it.

    Attributes
    ----------
    network, placement
        The devices it is over, and which layers each runs.
    pieces
        What each runs and where it sends it, in the order data meets them.
    tau_s, epsilon_s
        Of each device with a piece, and of each link that carries something.
    latency_s
        T.
    """

    network: Network
    placement: Placement
    pieces: tuple[Piece, ...]
    tau_s: Mapping[str, float]
    epsilon_s: Mapping[Pair, float]
    latency_s: float

    @property
    def period_s(self) -> float:
        """Longest term: seconds between answers when requests follow one another."""
        return max([*self.tau_s.values(), *self.epsilon_s.values()])

    @property
    def bottleneck(self) -> str:
        """Which term the period is."""
        for device, tau_s in self.tau_s.items():
            if tau_s == self.period_s:
                return f"compute on {device}"
        return next(f"link {a} -> {b}" for (a, b), eps in self.epsilon_s.items() if eps == self.period_s)


def fixed_space(space: SearchSpace, blocks: Sequence[Block]) -> SearchSpace:
    """Narrow a space to one network: a single candidate a layer."""
    return replace(space, choices=tuple((block.candidate,) for block in blocks))


def without(network: Network, lost: Sequence[str]) -> Network:
    """Take devices out; neighbours that are new to each other keep the wire of the link that led on.

    Raises
    ------
    DeployError
        When the network cannot do without them: a mesh may lose children alone.
    """
    if network.root and not set(lost) <= set(network.children):
        raise DeployError(
            f"lost {', '.join(lost)}: a mesh can go on without a child, not without a device in line"
        )
    devices = tuple(device for device in network.devices if device.name not in lost)
    if network.root:
        children = tuple(child for child in network.children if child not in lost)
        links = tuple(link for link in network.links if not {link.source, link.target} & set(lost))
        return replace(network, devices=devices, links=links, children=children)
    wires = {link.source: link for link in network.links}
    pairs = zip(devices, devices[1:], strict=False)
    kept = tuple(replace(wires[one.name], target=after.name) for one, after in pairs)
    return replace(network, devices=devices, links=kept)


def sizes_to_measure(space: SearchSpace, network: Network) -> tuple[int, ...]:
    """Bytes that links may have to carry: at most eight, spread over what the space's layers give."""
    sizes = np.unique(sent_bytes(space, network)).astype(int)
    sizes = sizes[sizes > 0]
    chosen = np.unique(np.linspace(0, len(sizes) - 1, 8).round().astype(int))
    return tuple(int(n) for n in sizes[chosen])


def solve(
    space: SearchSpace,
    network: Network,
    predictors: Mapping[str, Predictor],
    links: Links,
    cuts: Sequence[int] | None = None,
    call_s: Mapping[str, float] | None = None,
) -> Solved:
    """Find the split of least T under the network's policy and limits, exactly.

    Parameters
    ----------
    space
        Of one network: a single candidate a layer.
    network
        Devices in order, wires, policy, limits; its links' rates are not looked at.
    predictors
        U(.) by device.
    links
        As measured, between neighbours.
    cuts
        A split of the line that is given; it is not solved for.
    call_s
        What a call costs on a device, which each part pays once; it does not enter the choice of the split.

    Raises
    ------
    NetworkError, TargetError
        When the policy and the limits allow no split.
    """
    known = {(link.source, link.target): link for link in network.links}
    measured = tuple(
        replace(link, capacity_bps=links[pair].capacity_bps, delay_s=links[pair].a_s)
        for pair, link in known.items()
    )
    network = replace(network, links=measured, returns=False)
    lut = build_lut(space, network, predictors)
    indices = (0,) * space.N
    placement = lut.best(indices)[1]
    if cuts:
        placement = replace(placement, cuts=tuple(cuts))
    pieces = line_pieces(space, network, placement)
    return _with_terms(network, lut, placement, pieces, links, call_s or {})


def _with_terms(
    network: Network,
    lut: LatencyLUT,
    placement: Placement,
    pieces: tuple[Piece, ...],
    links: Links,
    call_s: Mapping[str, float],
) -> Solved:
    terms = {term.device: term for term in lut.terms((0,) * sum(map(len, _layers(lut))), placement)}
    tau_s = {
        piece.device: terms[piece.device].tau_s + call_s.get(piece.device, 0.0) * (piece.last >= piece.first)
        for piece in pieces
    }
    epsilon_s: dict[Pair, float] = {}
    for piece in pieces:
        for target in piece.targets:
            pair = piece.device, target.device
            if piece.device != network.root:
                epsilon_s[pair] = links[pair].epsilon_s(terms[piece.device].sent_bytes)
            elif isinstance(lut, MeshLUT) and network.fan_out == "broadcast":
                epsilon_s[pair] = links[pair].epsilon_s(lut.sent_root_bytes)
            else:
                epsilon_s[pair] = terms[target.device].epsilon_root_s
    children = [piece for piece in pieces if piece.device in network.children]
    line = [piece for piece in pieces if piece.device not in network.children]
    branches = [
        Branch(
            epsilon_s[network.root, child.device],
            tau_s[child.device],
            epsilon_s[child.device, child.targets[0].device],
        )
        for child in children
    ]
    sends = [
        epsilon_s[piece.device, piece.targets[0].device]
        if piece.targets and piece.device != network.root
        else 0.0
        for piece in line
    ]
    # Broadcast: what serial fan-out makes a branch wait for is in its own term already.
    latency_s = completion_latency([tau_s[piece.device] for piece in line], sends, 0.0, branches)
    return Solved(network, placement, pieces, tau_s, epsilon_s, float(latency_s))


def _layers(lut: LatencyLUT) -> tuple[tuple[int, ...], ...]:
    return (lut.line_layers, *lut.branch_layers)


def line_pieces(space: SearchSpace, network: Network, placement: Placement) -> tuple[Piece, ...]:
    """Make the pieces of a split of a chain or a mesh, in the order data meets them.

    Devices behind the one that ran the last layer are left out: the result stays where it is.
    """
    line, cuts = network.line, placement.cuts
    starts = (0, *cuts[:-1])
    last = max(m for m, (start, cut) in enumerate(zip(starts, cuts, strict=True)) if cut > start)
    root = line.index(network.root) if network.root else len(line)
    last = max(last, root + 1) if network.root else last
    pieces: list[Piece] = []
    for m in range(last + 1):
        segment, offset = ("chain", 0) if not network.root else ("trunk", 0)
        if m > root:
            segment, offset = "tail", space.trunk
        joined = len(space.branches) if m == root + 1 and len(space.branches) > 1 else 0
        targets: tuple[Target, ...] = ()
        if m == root:
            order = [network.children[k] for k in placement.children]
            targets = tuple(Target(child, network.link(line[m], child).wire) for child in order)
        elif m < last:
            wire = network.input_encoding if cuts[m] == 0 else network.link(line[m], line[m + 1]).wire
            targets = (Target(line[m + 1], wire),)
        pieces.append(Piece(line[m], segment, starts[m] - offset + 1, cuts[m] - offset, targets, joined))
        if m == root:
            pieces += _branch_pieces(space, network, placement, line[m + 1])
    return tuple(pieces)


def _branch_pieces(space: SearchSpace, network: Network, placement: Placement, behind: str) -> list[Piece]:
    found = []
    for b, (layers, k) in enumerate(zip(space.branches, placement.children, strict=True)):
        child = network.children[k]
        target = Target(behind, network.link(child, behind).wire, b)
        found.append(Piece(child, f"branch{b + 1}", 1, len(layers), (target,)))
    return found


def segment_layers(space: SearchSpace) -> dict[str, tuple[int, ...]]:
    """Places of each segment's layers in the space: one chain, or trunk, branches and tail."""
    if not space.branches:
        return {"chain": tuple(range(space.N))}
    branches = {f"branch{b + 1}": layers for b, layers in enumerate(space.branches)}
    tail = tuple(n for n in space.line if n >= space.trunk)
    return {"trunk": tuple(range(space.trunk)), **branches, "tail": tail}
