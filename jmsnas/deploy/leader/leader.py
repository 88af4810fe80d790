"""The leader: it collects devices and links, ships the parts, and sends images through.

Plans are numbered. A request names its plan and is run by parts of that plan alone, on every device; the
leader sends by a new plan only after all devices have it ready. So an answer is always of one plan.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from numpy.typing import NDArray

from jmsnas.deploy.leader.agent_client import AgentClient, DeviceLostError
from jmsnas.deploy.parts.export import ExportedModel
from jmsnas.deploy.parts.manifest import Blob, blob_list_bytes, manifest_bytes, sign
from jmsnas.deploy.parts.shipment import PartSpec, Shipment, make_shipments
from jmsnas.deploy.transport.channel import Identity
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.encoding import decode_tensor, encode_tensor, raw_bytes
from jmsnas.deploy.transport.frame import DeviceSpan, TensorHeader, WireDtype, pack_tensor, unpack_tensor
from jmsnas.deploy.transport.identity import fingerprint, read_identity, read_signing_key
from jmsnas.deploy.transport.link import MeasuredLink, fit_measured_link
from jmsnas.errors import DeployError, FrameError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: logits, the devices it was at, and the seconds until it was back."""

    logits: NDArray[np.float32]
    trail: tuple[DeviceSpan, ...]
    epoch: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ImageEncoding:
    """The raw image on the wire: `u1` is `scale * value + zero`, `f4` as it is."""

    dtype: WireDtype = "f4"
    scale: float = 1.0
    zero: float = 0.0


class Leader:
    """The leader of a deployment; `close` it."""

    def __init__(self, certs: Path, agents: Mapping[str, AgentAddress], plain: bool = False) -> None:
        self.agents = dict(agents)
        own = read_identity(certs)
        self._identity: Identity | None = None if plain else own
        self._key = read_signing_key(certs)
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._cluster = hashlib.sha256(public).hexdigest()
        self._fingerprint = fingerprint(own.certificate_pem)
        self.clients = {name: AgentClient(address, self._identity) for name, address in agents.items()}
        self._lock = threading.Lock()
        self._plan: tuple[int, str] = (0, "")  # epoch, first device: read and swapped together

    @property
    def epoch(self) -> int:
        """Number of the plan that requests are sent by; 0 before the first."""
        return self._plan[0]

    def collect(self) -> dict[str, dict[str, Any]]:
        """Ask every device what it is. Raises LostDevice."""
        return self._each(lambda peer: peer.describe())

    def lost(self) -> list[str]:
        """Devices that do not answer within a second that they serve."""
        answers = self._each(lambda peer: peer.healthy())
        return [name for name, healthy in answers.items() if not healthy]

    def measure_links(
        self, pairs: Sequence[tuple[str, str]], sizes: Sequence[int], rounds: int = 15
    ) -> dict[tuple[str, str], MeasuredLink]:
        """Measure links in turn, a message at a time, unawaited as requests are. Raises LostDevice."""
        boots = {name: told.get("boot", "") for name, told in self.collect().items()}
        sizes = sorted(set(sizes))
        # The first of each opens the connection and compares the clocks.
        clocks = {(a, b): self.clients[a].link(self.agents[b], sizes, clock=True) for a, b in pairs}
        taken: dict[tuple[str, str], list[list[int]]] = {pair: [] for pair in pairs}
        for _ in range(rounds):
            found = {pair: list[int]() for pair in pairs}
            for size in sizes:
                for source, target in pairs:
                    told = self.clients[source].link(self.agents[target], [size])
                    found[source, target] += told["arrival_ns"]
            for pair in pairs:
                taken[pair].append(found[pair])
        return {
            pair: fit_measured_link(
                pair,
                sizes,
                taken[pair],
                clocks[pair],
                bool(boots[pair[0]]) and boots[pair[0]] == boots[pair[1]],
            )
            for pair in pairs
        }

    def ship(
        self,
        part_specs: tuple[PartSpec, ...],
        segments: Mapping[str, ExportedModel],
        log: Callable[[str], None] = lambda text: None,
    ) -> dict[str, int]:
        """Ship a plan, wait until every device has it ready, send by it from then on, and end older ones.

        Returns
        -------
        Bytes of blobs that had to travel, by device.

        Raises
        ------
        LostDevice, DeployError
            When a device is lost or refuses its part; the plan before goes on.
        """
        used = [part_spec.device for part_spec in part_specs]
        epochs = self._each(lambda peer: peer.epoch(self._key.public_key()), used)
        epoch = max([self.epoch, *epochs.values()]) + 1
        made = make_shipments(part_specs, segments, self.agents, self._cluster, self._fingerprint, epoch)
        sent = self._each(lambda peer: self._send(peer, made[peer.name]), used)
        self._each(lambda peer: peer.stage(epoch), used)
        with self._lock:
            self._plan = epoch, part_specs[0].device
        # What is under way by the plan before, another leader's perhaps, may end; older ones have ended.
        self._each(lambda peer: peer.retire(epochs[peer.name] or epoch), used)
        log(f"plan {epoch}: {sum(sent.values())} bytes of parts sent, all others were there")
        return sent

    def _send(self, peer: AgentClient, shipment: Shipment) -> int:
        content = manifest_bytes(shipment.manifest)
        missing = set(peer.offer(content, sign(content, self._key))) & set(shipment.blobs)
        for digest in missing:
            peer.put(digest, shipment.blobs[digest])
        return sum(len(shipment.blobs[digest]) for digest in missing)

    def start(
        self,
        x: NDArray[np.float32],
        timeout_s: float,
        encoding: ImageEncoding = ImageEncoding(),  # noqa: B008 - frozen
        request: str = "",
    ) -> Callable[[], Response]:
        """Send an image by the newest plan; what is given back waits for the answer.

        Parameters
        ----------
        x
            (1, channels, height, width) float32.
        timeout_s
            The answer, or an error, comes within it.
        encoding
            Of the raw image on the wire.
        request
            32 hexadecimal digits: the same request again gets the same answer; a new one where empty.
        """
        epoch, first = self._plan
        if not epoch:
            raise DeployError("no plan was shipped yet: ship one first")
        values, scale, zero = encode_tensor(x, encoding.dtype, encoding.scale, encoding.zero)
        request = request or secrets.token_hex(16)
        header = TensorHeader(request, epoch, encoding.dtype, x.shape, scale, zero)
        began = time.monotonic()
        wait = self.clients[first].start(pack_tensor(header, raw_bytes(values)), timeout_s)

        def answer() -> Response:
            try:
                found, body = unpack_tensor(wait())
            except FrameError:
                raise DeployError(f"device {first}: an answer that cannot be read (Run)") from None
            seconds = time.monotonic() - began
            if (found.id, found.epoch) != (request, epoch):
                raise DeployError(f"device {first} answered another request than was sent")
            return Response(decode_tensor(found, body), found.trail, epoch, seconds)

        return answer

    def infer(
        self,
        x: NDArray[np.float32],
        timeout_s: float = 10.0,
        encoding: ImageEncoding = ImageEncoding(),  # noqa: B008
    ) -> Response:
        """Send an image and wait for its answer. Raises LostDevice, DeployError."""
        return self.start(x, timeout_s, encoding)()

    def time_blocks(
        self, device: str, models: Sequence[bytes], job: Mapping[str, Any], report: Callable[[Any], None]
    ) -> None:
        """Have a device time blocks, ONNX files that it gets by digest; see `deploy.agent.remote_timing`.

        Raises LostDevice, DeployError.
        """
        peer = self.clients[device]
        digests = [hashlib.sha256(model).hexdigest() for model in models]
        by_digest = dict(zip(digests, models, strict=True))
        content = blob_list_bytes([Blob(digest, len(model)) for digest, model in by_digest.items()])
        for digest in set(peer.allow(content, sign(content, self._key))) & set(by_digest):
            peer.put(digest, by_digest[digest])
        peer.bench({**job, "models": digests}, report)

    def drop(self, names: Sequence[str]) -> None:
        """Do without these devices."""
        for name in names:
            self.clients.pop(name).close()
            del self.agents[name]

    def close(self) -> None:
        """Close all channels; the agents go on."""
        for peer in self.clients.values():
            peer.close()

    def _each(self, call: Callable[[AgentClient], T], names: Sequence[str] | None = None) -> dict[str, T]:
        """Call every device at the same time; the first error is raised after all have ended."""
        peers = [self.clients[name] for name in (self.clients if names is None else dict.fromkeys(names))]
        with ThreadPoolExecutor(max(1, len(peers))) as pool:
            calls = {peer.name: pool.submit(call, peer) for peer in peers}
        errors = [error for future in calls.values() if (error := future.exception())]
        # A lost device says more than what others saw of it.
        for error in sorted(errors, key=lambda error: not isinstance(error, DeviceLostError)):
            raise error
        return {name: future.result() for name, future in calls.items()}
