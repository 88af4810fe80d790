"""Plan and build what is sent to each device: the parts of a split, as signed manifests and blobs."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from jmsnas.deploy.parts.export import ExportedModel
from jmsnas.deploy.parts.manifest import Blob, Hop, Manifest
from jmsnas.deploy.parts.onnx_scan import OnnxRequirements, scan_onnx
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.encoding import WIRE_DTYPES
from jmsnas.nas.split.placement import Placement
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.space import SearchSpace
from jmsnas.topology import Topology

_VERSIONS = ("jmsnas", "torch", "onnx", "numpy")


@dataclass(frozen=True, slots=True)
class NextHop:
    """A device that receives a part's output.

    Attributes
    ----------
    device, wire
        Its name, and the number format on the link.
    branch
        Index of the tensor among those that are summed there.
    pace_bps, pace_delay_s
        Rate and delay to which the transfer is slowed down, to emulate a link; 0 where it is not.
    wait_s
        Seconds until it is sent to, while the copies of a serial fan-out before it are sent.
    """

    device: str
    wire: str = "float32"
    branch: int = 0
    pace_bps: float = 0.0
    pace_delay_s: float = 0.0
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PartSpec:
    """The part of a device: layers first .. last (from 1) of a segment; last = first - 1 if it only forwards.

    Attributes
    ----------
    device, segment
        The device, and the segment of the model: `chain`, or `trunk`, `branch1` ..., `tail`.
    first, last
        Its layers.
    next_hops
        Where the output goes.
    joined
        Number of tensors that are summed before the part; 0 where there is one.
    hold_s
        Least time of one call on an emulated device.
    key
        Runtime, processor and layout.
    """

    device: str
    segment: str
    first: int
    last: int
    next_hops: tuple[NextHop, ...]
    joined: int = 0
    hold_s: float = 0.0
    key: RuntimeKey = RuntimeKey()

    @property
    def layer_range(self) -> str:
        """Its layers as text, such as `3-5` or `trunk 1-4`; empty where it only forwards."""
        if self.last < self.first:
            return ""
        span = f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        return span if self.segment == "chain" else f"{self.segment} {span}"


@dataclass(frozen=True, slots=True)
class Shipment:
    """A device's manifest, and the blobs it names, by digest."""

    manifest: Manifest
    blobs: Mapping[str, bytes]


def split_part_specs(space: SearchSpace, topology: Topology, placement: Placement) -> tuple[PartSpec, ...]:
    """Return the parts of a split of a chain or a mesh, in the order of the data flow.

    Devices behind the one that runs the last layer are left out: the result stays there.
    """
    line, cuts = topology.main_path, placement.cuts
    starts = (0, *cuts[:-1])
    last = max(m for m, (start, cut) in enumerate(zip(starts, cuts, strict=True)) if cut > start)
    root = line.index(topology.root) if topology.root else len(line)
    last = max(last, root + 1) if topology.root else last
    specs: list[PartSpec] = []
    for m in range(last + 1):
        segment, offset = ("chain", 0) if not topology.root else ("trunk", 0)
        if m > root:
            segment, offset = "tail", space.trunk
        joined = len(space.branches) if m == root + 1 and len(space.branches) > 1 else 0
        next_hops: tuple[NextHop, ...] = ()
        if m == root:
            order = placement.order or range(len(placement.children))
            children = [topology.children[placement.children[b]] for b in order]
            next_hops = tuple(NextHop(child, topology.link(line[m], child).wire) for child in children)
        elif m < last:
            wire = topology.input_encoding if cuts[m] == 0 else topology.link(line[m], line[m + 1]).wire
            next_hops = (NextHop(line[m + 1], wire),)
        specs.append(PartSpec(line[m], segment, starts[m] - offset + 1, cuts[m] - offset, next_hops, joined))
        if m == root:
            specs += _branch_part_specs(space, topology, placement, line[m + 1])
    return tuple(specs)


def _branch_part_specs(
    space: SearchSpace, topology: Topology, placement: Placement, join: str
) -> list[PartSpec]:
    specs = []
    for b, (layers, k) in enumerate(zip(space.branches, placement.children, strict=True)):
        child = topology.children[k]
        next_hop = NextHop(join, topology.link(child, join).wire, b)
        specs.append(PartSpec(child, f"branch{b + 1}", 1, len(layers), (next_hop,)))
    return specs


def segment_layers(space: SearchSpace) -> dict[str, tuple[int, ...]]:
    """Return the layer indices of each segment of a space: one chain, or trunk, branches and tail."""
    if not space.branches:
        return {"chain": tuple(range(space.N))}
    branches = {f"branch{b + 1}": layers for b, layers in enumerate(space.branches)}
    tail = tuple(n for n in space.main_path if n >= space.trunk)
    return {"trunk": tuple(range(space.trunk)), **branches, "tail": tail}


def make_shipments(
    part_specs: tuple[PartSpec, ...],
    segments: Mapping[str, ExportedModel],
    agents: Mapping[str, AgentAddress],
    cluster: str,
    leader: str,
    epoch: int,
    seed: int = 0,
) -> dict[str, Shipment]:
    """Build each device's shipment.

    Parameters
    ----------
    part_specs
        In the order of the data flow; images are sent to the first one.
    segments
        The exported segments, by name.
    agents
        Addresses of the devices.
    cluster, leader
        Digest of the leader's signing key, and fingerprint of its certificate.
    epoch
        Number of the plan.
    seed
        Of the golden inputs.
    """
    trails = response_trails(part_specs)
    response_shape = segments[part_specs[-1].segment].shapes[part_specs[-1].last]
    shipments = {}
    for spec in part_specs:
        exported = segments[spec.segment]
        blobs, required = _blobs(spec, exported, seed)
        model, golden = [Blob(digest, len(content)) for digest, content in blobs.items()] or (None, None)
        own = exported.blocks[spec.first - 1 : spec.last] if spec.key.runtime == "torch" else ()
        manifest = Manifest(
            cluster=cluster,
            device=spec.device,
            fingerprint=agents[spec.device].fingerprint,
            epoch=epoch,
            layers=spec.layer_range,
            runtime=spec.key.runtime,
            processor=spec.key.processor,
            layout=spec.key.layout,
            blocks=tuple(map(str, own)) if model else (),
            model=model,
            golden=golden,
            input_shape=exported.shapes[spec.first - 1],
            output_shape=exported.shapes[spec.last],
            opset=required.opset,
            ops=required.ops,
            threads=1,
            peak_bytes=16 * sum(int(np.prod(shape)) for shape in exported.shapes) * 8 + (64 << 20),
            joined=spec.joined,
            sources=_sources(part_specs, spec, agents) or (leader,),
            response_shape=response_shape,
            hops=tuple(_hop(next_hop, agents, trails) for next_hop in spec.next_hops),
            hold_s=spec.hold_s,
            versions={name: version(name) for name in _VERSIONS},
        )
        shipments[spec.device] = Shipment(manifest, blobs)
    return shipments


def response_trails(part_specs: tuple[PartSpec, ...]) -> dict[str, tuple[str, ...]]:
    """Return the names in the trail of each device's response: its own, then those of its next hops."""
    trails: dict[str, tuple[str, ...]] = {}
    for spec in reversed(part_specs):
        behind = (name for next_hop in spec.next_hops for name in trails[next_hop.device])
        trails[spec.device] = (spec.device, *behind)
    return trails


def _sources(
    part_specs: tuple[PartSpec, ...], target: PartSpec, agents: Mapping[str, AgentAddress]
) -> tuple[str, ...]:
    """Return the fingerprints of the devices that send data to a part, in the order of their branches."""
    senders = [
        (next_hop.branch, agents[spec.device].fingerprint)
        for spec in part_specs
        for next_hop in spec.next_hops
        if next_hop.device == target.device
    ]
    return tuple(fingerprint for _, fingerprint in sorted(senders))


def _blobs(spec: PartSpec, exported: ExportedModel, seed: int) -> tuple[dict[str, bytes], OnnxRequirements]:
    """Return a part's model file and golden values, by digest, and what an ONNX file requires."""
    torch = spec.key.runtime == "torch"
    export = exported.weights_file if torch else exported.onnx_part
    model = export(spec.first, spec.last) if spec.last >= spec.first else None
    if model is None:
        return {}, OnnxRequirements(0, ())
    x = np.random.default_rng(seed).standard_normal(exported.shapes[spec.first - 1]).astype(np.float32)
    y = exported.run(x, spec.first, spec.last)
    golden = np.concatenate([x.ravel(), y.ravel()]).astype("<f4").tobytes()
    required = OnnxRequirements(0, ()) if torch else scan_onnx(model)
    return {hashlib.sha256(content).hexdigest(): content for content in (model, golden)}, required


def _hop(next_hop: NextHop, agents: Mapping[str, AgentAddress], trails: Mapping[str, tuple[str, ...]]) -> Hop:
    return Hop(
        next_hop.device,
        agents[next_hop.device].data_address,
        agents[next_hop.device].fingerprint,
        WIRE_DTYPES[next_hop.wire],
        next_hop.branch,
        next_hop.pace_bps,
        next_hop.pace_delay_s,
        trails[next_hop.device],
        next_hop.wait_s,
    )
