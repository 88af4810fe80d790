"""The split for the devices as they are: U(.) of each, and the links as they were measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jmsnas.deploy.leader.serving_overhead import ServingOverhead
from jmsnas.deploy.parts.shipment import PartSpec, segment_layers, split_part_specs
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.errors import DeployError
from jmsnas.latency import Branch, completion_latency
from jmsnas.nas.latency.build_lut import LatencyLUT, Predictor, build_lut, sent_bytes
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.split.placement import Placement
from jmsnas.space import IDENTITY, Block, SearchSpace
from jmsnas.topology import Topology

Links = Mapping[tuple[str, str], MeasuredLink]
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PlannedSplit:
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

    topology: Topology
    placement: Placement
    part_specs: tuple[PartSpec, ...]
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


def single_model_space(space: SearchSpace, blocks: Sequence[Block]) -> SearchSpace:
    """Narrow a space to one network: a single candidate a layer."""
    return replace(space, choices=tuple((block.candidate,) for block in blocks))


def without_devices(topology: Topology, lost: Sequence[str]) -> Topology:
    """Take devices out; neighbours that are new to each other keep the wire of the link that led on.

    Raises
    ------
    DeployError
        When the network cannot do without them: a mesh may lose children alone.
    """
    if topology.root and not set(lost) <= set(topology.children):
        raise DeployError(
            f"lost {', '.join(lost)}: a mesh can go on without a child, not without a device in line"
        )
    devices = tuple(device for device in topology.devices if device.name not in lost)
    if topology.root:
        children = tuple(child for child in topology.children if child not in lost)
        links = tuple(link for link in topology.links if not {link.source, link.target} & set(lost))
        return replace(topology, devices=devices, links=links, children=children)
    wires = {link.source: link for link in topology.links}
    pairs = zip(devices, devices[1:], strict=False)
    kept = tuple(replace(wires[one.name], target=after.name) for one, after in pairs)
    return replace(topology, devices=devices, links=kept)


def link_probe_sizes(space: SearchSpace, topology: Topology) -> tuple[int, ...]:
    """Bytes that links may have to carry: at most eight, spread over what the space's layers give."""
    sizes = np.unique(sent_bytes(space, topology)).astype(int)
    sizes = sizes[sizes > 0]
    chosen = np.unique(np.linspace(0, len(sizes) - 1, 8).round().astype(int))
    return tuple(int(n) for n in sizes[chosen])


def solve_split(
    space: SearchSpace,
    topology: Topology,
    predictors: Mapping[str, Predictor],
    links: Links,
    cuts: Sequence[int] | None = None,
    served: Mapping[str, ServingOverhead] | None = None,
) -> PlannedSplit:
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
    served
        What serving adds to U(.) on a device; it does not enter the choice of the split.

    Raises
    ------
    NetworkError, TargetError
        When the policy and the limits allow no split.
    """
    topology, lut = _lut(space, topology, predictors, links)
    placement = lut.best((0,) * space.N)[1]
    if cuts:
        placement = replace(placement, cuts=tuple(cuts))
    return _with_terms(space, topology, lut, placement, links, served or {})


def repredict(
    space: SearchSpace,
    solved: PlannedSplit,
    predictors: Mapping[str, Predictor],
    links: Links,
    served: Mapping[str, ServingOverhead],
) -> PlannedSplit:
    """Predict a split once more, with what was learnt since it was solved."""
    topology, lut = _lut(space, solved.topology, predictors, links)
    return _with_terms(space, topology, lut, solved.placement, links, served)


def _lut(
    space: SearchSpace, topology: Topology, predictors: Mapping[str, Predictor], links: Links
) -> tuple[Topology, LatencyLUT]:
    """Give the network with links as measured, and its table of terms."""
    known = {(link.source, link.target): link for link in topology.links}
    measured = tuple(
        replace(link, capacity_bps=links[pair].capacity_bps, delay_s=links[pair].a_s)
        for pair, link in known.items()
    )
    topology = replace(topology, links=measured, returns=False)
    return topology, build_lut(space, topology, predictors)


def _with_terms(
    space: SearchSpace,
    topology: Topology,
    lut: LatencyLUT,
    placement: Placement,
    links: Links,
    served: Mapping[str, ServingOverhead],
) -> PlannedSplit:
    part_specs = split_part_specs(space, topology, placement)
    terms = {term.device: term for term in lut.terms((0,) * sum(map(len, _layers(lut))), placement)}
    tau_s = {
        part_spec.device: 0.0
        if _passes_on(space, part_spec)
        else served.get(part_spec.device, ServingOverhead()).seconds(terms[part_spec.device].tau_s)
        for part_spec in part_specs
    }
    epsilon_s = {
        (part_spec.device, target.device): _send_s(
            topology, lut, terms, links, (part_spec.device, target.device)
        )
        for part_spec in part_specs
        for target in part_spec.next_hops
    }
    children = [part_spec for part_spec in part_specs if part_spec.device in topology.children]
    line = [part_spec for part_spec in part_specs if part_spec.device not in topology.children]
    branches = [
        Branch(
            epsilon_s[topology.root, child.device],
            tau_s[child.device],
            epsilon_s[child.device, child.next_hops[0].device],
        )
        for child in children
    ]
    sends = [
        epsilon_s[part_spec.device, part_spec.next_hops[0].device]
        if part_spec.next_hops and part_spec.device != topology.root
        else 0.0
        for part_spec in line
    ]
    # Broadcast: what serial fan-out makes a branch wait for is in its own term already.
    latency_s = completion_latency([tau_s[part_spec.device] for part_spec in line], sends, 0.0, branches)
    return PlannedSplit(topology, placement, part_specs, tau_s, epsilon_s, float(latency_s))


def _passes_on(space: SearchSpace, part_spec: PartSpec) -> bool:
    """Whether a piece of a single network has no layer that computes: such a part is no call."""
    layers = segment_layers(space)[part_spec.segment][part_spec.first - 1 : part_spec.last]
    return all(space.choices[n][0] == IDENTITY for n in layers)


def _send_s(topology: Topology, lut: LatencyLUT, terms: Mapping[str, Any], links: Links, pair: Pair) -> float:
    """Seconds of what a split sends over a link."""
    source, target = pair
    if source != topology.root:
        return links[pair].epsilon_s(terms[source].sent_bytes)
    if isinstance(lut, MeshLUT) and topology.fan_out == "broadcast":
        return links[pair].epsilon_s(lut.sent_root_bytes)
    return float(terms[target].epsilon_root_s)


def _layers(lut: LatencyLUT) -> tuple[tuple[int, ...], ...]:
    return (lut.main_path_layers, *lut.branch_layers)
