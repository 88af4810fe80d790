"""What goes where: the pieces of a network, and the signed manifests and blobs they become."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from jmsnas.deploy.parts.export import Exported
from jmsnas.deploy.parts.manifest import Manifest
from jmsnas.deploy.parts.manifest_fields import Blob, Hop
from jmsnas.deploy.parts.onnx_scan import OnnxFacts, read_onnx
from jmsnas.deploy.transport.devices_file import Address
from jmsnas.deploy.transport.encoding import WIRE_DTYPES
from jmsnas.profiler.table.latency_table import Key

_VERSIONS = ("jmsnas", "torch", "onnx", "numpy")


@dataclass(frozen=True, slots=True)
class Target:
    """A piece's next device: its name, the number format on the way, and which tensor of its join this is.

    `pace_bps` and `pace_delay_s` hold the transfer back as a link of that rate would; 0 where it is not held.
    """

    device: str
    wire: str = "float32"
    branch: int = 0
    pace_bps: float = 0.0
    pace_delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Layers first .. last (from 1) of a segment on a device; last = first - 1 where it only passes on.

    `segment` names the network or the branch they are of; `joined` is how many tensors are added up before
    them; `hold_s` how long an emulated device takes at least; `key` what runs it and how: its run time,
    processor and layout.
    """

    device: str
    segment: str
    first: int
    last: int
    targets: tuple[Target, ...]
    joined: int = 0
    hold_s: float = 0.0
    key: Key = Key()

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


def shipments(
    pieces: tuple[Piece, ...],
    segments: Mapping[str, Exported],
    agents: Mapping[str, Address],
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
    senders = {piece.device: [leader] if n == 0 else [] for n, piece in enumerate(pieces)}
    for piece in pieces:
        for target in piece.targets:
            senders[target.device].append(agents[piece.device].fingerprint)
    found = {}
    for piece in pieces:
        exported = segments[piece.segment]
        blobs, facts = _contents(piece, exported, seed)
        named = [Blob(digest, len(content)) for digest, content in blobs.items()]
        found[piece.device] = Shipment(
            Manifest(
                cluster=cluster,
                device=piece.device,
                fingerprint=agents[piece.device].fingerprint,
                epoch=epoch,
                layers=piece.words,
                runtime=piece.key.runtime,
                processor=piece.key.processor,
                layout=piece.key.layout,
                blocks=exported.words(piece.first, piece.last)
                if named and piece.key.runtime == "torch"
                else (),
                model=named[0] if named else None,
                golden=named[1] if named else None,
                input_shape=exported.shapes[piece.first - 1],
                output_shape=exported.shapes[piece.last],
                opset=facts.opset,
                ops=facts.ops,
                threads=threads,
                peak_bytes=16 * sum(int(np.prod(shape)) for shape in exported.shapes) * 8 + (64 << 20),
                joined=piece.joined,
                sources=tuple(sorted(set(senders[piece.device]))),
                hops=tuple(_hop(target, agents) for target in piece.targets),
                hold_s=piece.hold_s,
                versions={name: version(name) for name in _VERSIONS},
            ),
            blobs,
        )
    return found


def _contents(piece: Piece, exported: Exported, seed: int) -> tuple[dict[str, bytes], OnnxFacts]:
    """Give a piece's ONNX or safetensors file and golden numbers, by digest, and what an ONNX file needs."""
    torch = piece.key.runtime == "torch"
    made = exported.weights if torch else exported.cut
    model = made(piece.first, piece.last) if piece.last >= piece.first else None
    if model is None:
        return {}, OnnxFacts(0, ())
    shape = exported.shapes[piece.first - 1]
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    y = exported.run(x, piece.first, piece.last)
    golden = np.concatenate([x.ravel(), y.ravel()]).astype("<f4").tobytes()
    return {hashlib.sha256(content).hexdigest(): content for content in (model, golden)}, (
        OnnxFacts(0, ()) if torch else read_onnx(model)
    )


def chain_pieces(
    devices: tuple[str, ...], cuts: tuple[int, ...], wires: tuple[str, ...]
) -> tuple[Piece, ...]:
    """Make the pieces of a chain's split: `cuts` as in a `Placement`, `wires` of what leaves each device.

    Devices behind the one that ran the last layer are left out: the result stays where it is.
    """
    starts = (0, *cuts[:-1])
    last = max(m for m, (start, cut) in enumerate(zip(starts, cuts, strict=True)) if cut > start)
    return tuple(
        Piece(
            devices[m],
            "chain",
            starts[m] + 1,
            cuts[m],
            (Target(devices[m + 1], wires[m]),) if m < last else (),
        )
        for m in range(last + 1)
    )


def _hop(target: Target, agents: Mapping[str, Address]) -> Hop:
    return Hop(
        target.device,
        agents[target.device].address,
        WIRE_DTYPES[target.wire],
        target.branch,
        target.pace_bps,
        target.pace_delay_s,
    )
