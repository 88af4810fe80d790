"""Solve the split of a deployed model from U(.) of each device and the measured links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jmsnas.deploy.leader.measured_terms import Links
from jmsnas.deploy.leader.serving_overhead import ServingOverhead
from jmsnas.deploy.parts.shipment import PartSpec, segment_layers, split_part_specs
from jmsnas.errors import DeployError
from jmsnas.latency import Branch, completion_latency
from jmsnas.nas.latency.build_lut import LatencyLUT, Predictor, build_lut, sent_bytes
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.split.placement import Placement
from jmsnas.space import IDENTITY, Block, SearchSpace
from jmsnas.topology import Topology


@dataclass(frozen=True, slots=True)
class PlannedSplit:
    """A split with the predicted terms of equations (1) and (2).

    Attributes
    ----------
    topology, placement
        Devices and measured links, and the layers of each device.
    part_specs
        Part and next hops of each device, in the order of the data.
    tau_s, epsilon_s
        Predicted seconds of each device with a part, and of each link between two of them.
    latency_s
        T.
    """

    topology: Topology
    placement: Placement
    part_specs: tuple[PartSpec, ...]
    tau_s: Mapping[str, float]
    epsilon_s: Mapping[tuple[str, str], float]
    latency_s: float

    @property
    def period_s(self) -> float:
        """Longest term: seconds between responses of a pipeline."""
        return max([*self.tau_s.values(), *self.epsilon_s.values()])

    @property
    def bottleneck(self) -> str:
        """Name of the longest term."""
        for device, tau_s in self.tau_s.items():
            if tau_s == self.period_s:
                return f"compute on {device}"
        return next(f"link {a} -> {b}" for (a, b), eps in self.epsilon_s.items() if eps == self.period_s)


def single_model_space(space: SearchSpace, blocks: Sequence[Block]) -> SearchSpace:
    """Restrict a space to one model: a single candidate in each layer."""
    return replace(space, choices=tuple((block.candidate,) for block in blocks))


def without_devices(topology: Topology, lost: Sequence[str]) -> Topology:
    """Remove devices; a new link between neighbours keeps the wire format of the removed device's input.

    Raises DeployError when the first device is lost, or in a mesh all children or any other device.
    """
    first = topology.devices[0].name
    if first in lost:
        raise DeployError(
            f"device {first} is lost, which receives the images: no plan is possible without it. "
            "Start its agent again, see jmsnas doctor"
        )
    if topology.root and not set(lost) < set(topology.children):
        raise DeployError(
            f"device {', '.join(lost)} is lost: a mesh can continue without a child, but not without all of "
            "them or a device of its main path. Start its agent again, see jmsnas doctor"
        )
    devices = tuple(device for device in topology.devices if device.name not in lost)
    if topology.root:
        children = tuple(child for child in topology.children if child not in lost)
        links = tuple(link for link in topology.links if not {link.source, link.target} & set(lost))
        return replace(topology, devices=devices, links=links, children=children)
    by_source = {link.source: link for link in topology.links}
    pairs = zip(devices, devices[1:], strict=False)
    links = tuple(replace(by_source[one.name], target=after.name) for one, after in pairs)
    return replace(topology, devices=devices, links=links)


def link_probe_sizes(space: SearchSpace, topology: Topology) -> tuple[int, ...]:
    """Choose at most eight message sizes, bytes, spread over those of the space's layers."""
    sizes = np.unique(sent_bytes(space, topology)).astype(int)
    sizes = sizes[sizes > 0]
    if not len(sizes):  # a single device
        return ()
    chosen = np.unique(np.linspace(0, len(sizes) - 1, 8).round().astype(int))
    return tuple(int(n) for n in sizes[chosen])


def solve_split(
    space: SearchSpace,
    topology: Topology,
    predictors: Mapping[str, Predictor],
    links: Links,
    cuts: Sequence[int] | None = None,
    overheads: Mapping[str, ServingOverhead] | None = None,
) -> PlannedSplit:
    """Find the split of least T of one model's space under the topology's policy and limits, exactly.

    Parameters
    ----------
    predictors, links
        U(.) by device, and measured links between neighbours; the topology's link rates are not used.
    cuts
        A given split of the main path, instead of the best one.
    overheads
        Serving overhead by device. Its `a_s` counts as the call of the device, in place of the topology's.

    Raises
    ------
    TopologyError, InfeasibleError
        When the policy and the limits allow no split.
    """
    topology, lut = _measured_lut(space, topology, predictors, links, overheads or {})
    placement = lut.best_split((0,) * space.N)[1]
    if cuts:
        placement = replace(placement, cuts=tuple(cuts))
    return _with_terms(space, topology, lut, placement, links, overheads or {})


def repredict(
    space: SearchSpace,
    split: PlannedSplit,
    predictors: Mapping[str, Predictor],
    links: Links,
    overheads: Mapping[str, ServingOverhead],
) -> PlannedSplit:
    """Predict a split again, with newly measured links and overheads."""
    topology, lut = _measured_lut(space, split.topology, predictors, links, overheads)
    return _with_terms(space, topology, lut, split.placement, links, overheads)


def _measured_lut(
    space: SearchSpace,
    topology: Topology,
    predictors: Mapping[str, Predictor],
    links: Links,
    overheads: Mapping[str, ServingOverhead],
) -> tuple[Topology, LatencyLUT]:
    """Return the topology with the measured links and calls, and the arrays of its terms."""
    measured = []
    for link in topology.links:
        own = links[link.source, link.target]
        measured.append(replace(link, capacity_bps=own.capacity_bps, delay_s=own.a_s, measured=None))
    devices = tuple(
        replace(device, call_s=max(0.0, overheads[device.name].a_s)) if device.name in overheads else device
        for device in topology.devices
    )
    topology = replace(topology, devices=devices, links=tuple(measured), returns=False)
    return topology, build_lut(space, topology, predictors)


def _with_terms(
    space: SearchSpace,
    topology: Topology,
    lut: LatencyLUT,
    placement: Placement,
    links: Links,
    overheads: Mapping[str, ServingOverhead],
) -> PlannedSplit:
    part_specs = split_part_specs(space, topology, placement)
    terms = {term.device: term for term in lut.terms((0,) * space.N, placement)}
    tau_s = {
        part.device: 0.0
        if _is_relay(space, part)
        else overheads.get(part.device, ServingOverhead(terms[part.device].call_s)).served_s(
            terms[part.device].tau_s
        )
        for part in part_specs
    }
    epsilon_s = {
        (part.device, hop.device): _send_s(topology, lut, terms, links, (part.device, hop.device))
        for part in part_specs
        for hop in part.next_hops
    }
    if topology.fan_out == "serial":
        part_specs = tuple(_one_by_one(part, topology, epsilon_s, links, lut) for part in part_specs)
    main_path = [part for part in part_specs if part.device not in topology.children]
    branches = [
        Branch(
            epsilon_s[topology.root, part.device],
            tau_s[part.device],
            epsilon_s[part.device, part.next_hops[0].device],
        )
        for part in part_specs
        if part.device in topology.children
    ]
    send_s = [
        epsilon_s[part.device, part.next_hops[0].device]
        if part.next_hops and part.device != topology.root
        else 0.0
        for part in main_path
    ]
    # fan_out stays broadcast: with serial fan-out each branch's epsilon already includes its wait.
    latency_s = completion_latency([tau_s[part.device] for part in main_path], send_s, 0.0, branches)
    return PlannedSplit(topology, placement, part_specs, tau_s, epsilon_s, float(latency_s))


def _one_by_one(
    part: PartSpec,
    topology: Topology,
    epsilon_s: Mapping[tuple[str, str], float],
    links: Links,
    lut: LatencyLUT,
) -> PartSpec:
    """Let each copy of the root wait until the copies before it are sent."""
    if part.device != topology.root or not isinstance(lut, MeshLUT):
        return part
    hops = []
    for hop in part.next_hops:
        pair = part.device, hop.device
        own_s = links[pair].epsilon_s(lut.sent_root_bytes)
        hops.append(replace(hop, wait_s=max(0.0, epsilon_s[pair] - own_s)))
    return replace(part, next_hops=tuple(hops))


def _is_relay(space: SearchSpace, part: PartSpec) -> bool:
    """Return whether a part has no layer that computes: it is passed on without a call."""
    layers = segment_layers(space)[part.segment][part.first - 1 : part.last]
    return all(space.choices[n][0] == IDENTITY for n in layers)


def _send_s(
    topology: Topology, lut: LatencyLUT, terms: Mapping[str, Any], links: Links, pair: tuple[str, str]
) -> float:
    """Return the seconds of what a split sends over a link."""
    source, target = pair
    if source != topology.root:
        return links[pair].epsilon_s(terms[source].sent_bytes)
    if topology.fan_out == "broadcast":
        return links[pair].epsilon_s(lut.sent_root_bytes)
    return float(terms[target].epsilon_root_s)
