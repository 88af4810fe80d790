"""What goes where: the pieces of a network, and the signed manifests and blobs they become."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from jmsnas.deploy.parts.export import ExportedModel
from jmsnas.deploy.parts.manifest import Manifest
from jmsnas.deploy.parts.manifest_fields import Blob, Hop
from jmsnas.deploy.parts.onnx_scan import OnnxRequirements, scan_onnx
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.encoding import WIRE_DTYPES
from jmsnas.profiler.table.latency_table import RuntimeKey

_VERSIONS = ("jmsnas", "torch", "onnx", "numpy")


@dataclass(frozen=True, slots=True)
class NextHop:
    """A piece's next device: its name, the number format on the way, and which tensor of its join this is.

    `pace_bps` and `pace_delay_s` hold the transfer back as a link of that rate would; 0 where it is not held.
    """

    device: str
    wire: str = "float32"
    branch: int = 0
    pace_bps: float = 0.0
    pace_delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PartSpec:
    """Layers first .. last (from 1) of a segment on a device; last = first - 1 where it only passes on.

    `segment` names the network or the branch they are of; `joined` is how many tensors are added up before
    them; `hold_s` how long an emulated device takes at least; `key` what runs it and how: its run time,
    processor and layout.
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
    def words(self) -> str:
        """Which layers, for people."""
        if self.last < self.first:
            return ""
        span = f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        return span if self.segment == "chain" else f"{self.segment} {span}"


@dataclass(frozen=True, slots=True)
class Shipment:
    """A device's manifest and the blobs it names, by digest."""

    manifest: Manifest
    blobs: Mapping[str, bytes]


def make_shipments(
    part_specs: tuple[PartSpec, ...],
    segments: Mapping[str, ExportedModel],
    agents: Mapping[str, AgentAddress],
    cluster: str,
    leader: str,
    epoch: int,
    threads: int = 1,
    seed: int = 0,
) -> dict[str, Shipment]:
    """Make each device's shipment.

    Parameters
    ----------
    pieces
        In the order data meets them; the first is the one that images are sent to.
    segments
        What their segments were exported to.
    agents
        Where the devices are.
    cluster, leader
        Digest of the leader's signing key, fingerprint of its certificate.
    epoch
        Number of the plan.
    threads
        A part runs with.
    seed
        Of the golden inputs.
    """
    senders = {part_spec.device: [leader] if n == 0 else [] for n, part_spec in enumerate(part_specs)}
    for part_spec in part_specs:
        for target in part_spec.next_hops:
            senders[target.device].append(agents[part_spec.device].fingerprint)
    found = {}
    for part_spec in part_specs:
        exported = segments[part_spec.segment]
        blobs, facts = _contents(part_spec, exported, seed)
        named = [Blob(digest, len(content)) for digest, content in blobs.items()]
        found[part_spec.device] = Shipment(
            Manifest(
                cluster=cluster,
                device=part_spec.device,
                fingerprint=agents[part_spec.device].fingerprint,
                epoch=epoch,
                layers=part_spec.words,
                runtime=part_spec.key.runtime,
                processor=part_spec.key.processor,
                layout=part_spec.key.layout,
                blocks=exported.words(part_spec.first, part_spec.last)
                if named and part_spec.key.runtime == "torch"
                else (),
                model=named[0] if named else None,
                golden=named[1] if named else None,
                input_shape=exported.shapes[part_spec.first - 1],
                output_shape=exported.shapes[part_spec.last],
                opset=facts.opset,
                ops=facts.ops,
                threads=threads,
                peak_bytes=16 * sum(int(np.prod(shape)) for shape in exported.shapes) * 8 + (64 << 20),
                joined=part_spec.joined,
                sources=tuple(sorted(set(senders[part_spec.device]))),
                hops=tuple(_hop(target, agents) for target in part_spec.next_hops),
                hold_s=part_spec.hold_s,
                versions={name: version(name) for name in _VERSIONS},
            ),
            blobs,
        )
    return found


def _contents(
    part_spec: PartSpec, exported: ExportedModel, seed: int
) -> tuple[dict[str, bytes], OnnxRequirements]:
    """Give a piece's ONNX or safetensors file and golden numbers, by digest, and what an ONNX file needs."""
    torch = part_spec.key.runtime == "torch"
    made = exported.weights if torch else exported.cut
    model = made(part_spec.first, part_spec.last) if part_spec.last >= part_spec.first else None
    if model is None:
        return {}, OnnxRequirements(0, ())
    shape = exported.shapes[part_spec.first - 1]
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    y = exported.run(x, part_spec.first, part_spec.last)
    golden = np.concatenate([x.ravel(), y.ravel()]).astype("<f4").tobytes()
    return {hashlib.sha256(content).hexdigest(): content for content in (model, golden)}, (
        OnnxRequirements(0, ()) if torch else scan_onnx(model)
    )


def chain_pieces(
    devices: tuple[str, ...], cuts: tuple[int, ...], wires: tuple[str, ...]
) -> tuple[PartSpec, ...]:
    """Make the pieces of a chain's split: `cuts` as in a `Placement`, `wires` of what leaves each device.

    Devices behind the one that ran the last layer are left out: the result stays where it is.
    """
    starts = (0, *cuts[:-1])
    last = max(m for m, (start, cut) in enumerate(zip(starts, cuts, strict=True)) if cut > start)
    return tuple(
        PartSpec(
            devices[m],
            "chain",
            starts[m] + 1,
            cuts[m],
            (NextHop(devices[m + 1], wires[m]),) if m < last else (),
        )
        for m in range(last + 1)
    )


def _hop(target: NextHop, agents: Mapping[str, AgentAddress]) -> Hop:
    return Hop(
        target.device,
        agents[target.device].address,
        WIRE_DTYPES[target.wire],
        target.branch,
        target.pace_bps,
        target.pace_delay_s,
    )
