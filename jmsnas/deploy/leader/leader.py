"""Leader of a deployment: measure devices and links, ship the parts, send images.

Plans are numbered. A request carries its plan's number, and only parts of that plan run it, on every device;
the leader sends by a new plan after all devices have loaded it. So a response always belongs to one plan.
"""

import hashlib
import math
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
from msgspec.structs import replace

from jmsnas.arrays import Float32Array
from jmsnas.deploy.leader.agent_client import AgentClient, DeviceLostError
from jmsnas.deploy.parts.export import ExportedModel
from jmsnas.deploy.parts.manifest import Blob, blob_list_bytes, manifest_bytes
from jmsnas.deploy.parts.shipment import PartSpec, Shipment, make_shipments, response_trails
from jmsnas.deploy.transport.channel import Identity
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.encoding import encode_tensor, raw_bytes
from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec, WireDtype
from jmsnas.deploy.transport.identity import fingerprint, read_identity, read_signing_key
from jmsnas.deploy.transport.link import MeasuredLink, check_transfer, fit_measured_link
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.responses import AgentInfo, TimingEvent, malformed
from jmsnas.deploy.transport.run_response import DeviceSpan, ExpectedResponse, parse_run_response
from jmsnas.errors import DeployError
from jmsnas.progress import Progress, no_progress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Response:
    """Response to an image: logits, timing of each device on its way, plan number, round trip in seconds."""

    logits: Float32Array
    trail: tuple[DeviceSpan, ...]
    epoch: int
    round_trip_s: float


@dataclass(frozen=True, slots=True)
class ImageEncoding:
    """Encoding of the raw image on the wire: `u1` is uint8 with `scale * value + zero`, `f4` float32."""

    dtype: WireDtype = "f4"
    scale: float = 1.0
    zero: float = 0.0


@dataclass(frozen=True, slots=True)
class _Plan:
    """The current plan: number, trail of its responses, which begins with the first device, their shape."""

    epoch: int
    trail: tuple[str, ...]
    response_shape: tuple[int, ...]


class Leader:
    """Leader of a deployment: a client of every agent, and the number of the current plan.

    `plain` connects without TLS. Call `close` at the end.
    """

    def __init__(self, certs: Path, agents: Mapping[str, AgentAddress], plain: bool = False) -> None:
        self.agents = dict(agents)
        own = read_identity(certs)
        self._identity: Identity | None = None if plain else own
        self._key = read_signing_key(certs)
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._cluster = hashlib.sha256(public).hexdigest()
        self._fingerprint = fingerprint(own.certificate_pem)
        self._liveness = Liveness()
        self.clients = {
            name: AgentClient(address, self._identity, self._liveness) for name, address in agents.items()
        }
        self._lock = threading.Lock()
        self._plan = _Plan(0, (), ())

    @property
    def epoch(self) -> int:
        """Number of the current plan; 0 before the first."""
        return self._plan.epoch

    def describe(self) -> dict[str, AgentInfo]:
        """Request the description of every device. Raises DeviceLostError."""
        return self._each(AgentClient.describe)

    def lost(self) -> list[str]:
        """Return the devices that do not pass a health check within three seconds."""
        health = self._each(lambda client: client.healthy(3.0))
        return [name for name, healthy in health.items() if not healthy]

    def measure_links(
        self,
        pairs: Sequence[tuple[str, str]],
        sizes: Sequence[int],
        rounds: int = 15,
        progress: Progress = no_progress,
    ) -> dict[tuple[str, str], MeasuredLink]:
        """Measure links in turn, one message at a time, like requests; `progress` gets the messages sent.

        Raises DeviceLostError.
        """
        boots = {name: info.boot for name, info in self.describe().items()}
        sizes = sorted(set(sizes))
        clocks: dict[tuple[str, str], tuple[int, int]] = {}
        for a, b in pairs:  # the first message of each link opens the connection and compares the clocks
            times = self.clients[a].link(self.agents[b], sizes, clock=True)
            same_host = bool(boots[a]) and boots[a] == boots[b]  # one boot of one host: one monotonic clock
            clocks[a, b] = (0, 0) if same_host else (times.offset_ns, times.round_trip_ns)
        arrival_ns = {pair: list[int]() for pair in pairs}
        for sent, size in enumerate(sizes * rounds):
            progress(sent, len(sizes) * rounds, f"measuring {len(pairs)} links")
            for a, b in pairs:
                began_ns = time.monotonic_ns()
                (own_ns,) = self.clients[a].link(self.agents[b], [size]).arrival_ns
                spent_ns = time.monotonic_ns() - began_ns
                check_transfer((a, b), own_ns - clocks[a, b][0], spent_ns + clocks[a, b][1])
                arrival_ns[a, b].append(own_ns)
        links = {}
        for a, b in pairs:
            rows_ns = np.reshape(arrival_ns[a, b], (rounds, len(sizes))).tolist()
            links[a, b] = fit_measured_link((a, b), sizes, rows_ns, *clocks[a, b])
        return links

    def ship(
        self,
        part_specs: tuple[PartSpec, ...],
        segments: Mapping[str, ExportedModel],
        log: Callable[[str], None] = lambda text: None,
    ) -> dict[str, int]:
        """Ship a plan, wait until every device has loaded it, make it current, and remove older plans.

        Returns the bytes of blobs sent, by device. Raises DeviceLostError or DeployError when a device is
        lost or refuses its part; the previous plan stays current.
        """
        used = [part.device for part in part_specs]
        epochs = self._each(lambda client: client.epoch(self._key.public_key()), used)
        epoch = max([self.epoch, *epochs.values()]) + 1
        shipped = make_shipments(part_specs, segments, self.agents, self._cluster, self._fingerprint, epoch)
        sent = self._each(lambda client: self._send(client, shipped[client.name]), used)
        self._each(lambda client: client.stage(epoch), used)
        last = part_specs[-1]
        plan = _Plan(epoch, response_trails(part_specs)[used[0]], segments[last.segment].shapes[last.last])
        with self._lock:
            self._plan = plan
        # The previous plan, perhaps of another leader, stays loaded for requests in flight; older ones go.
        self._each(lambda client: client.retire(epochs[client.name] or epoch), used)
        log(f"plan {epoch}: {sum(sent.values())} bytes of parts sent, the rest was cached on the devices")
        return sent

    def _send(self, client: AgentClient, shipment: Shipment) -> int:
        content = manifest_bytes(shipment.manifest)
        return _put_missing(client, client.offer(content, self._key.sign(content)), shipment.blobs)

    def start(
        self,
        x: Float32Array,
        timeout_s: float,
        encoding: ImageEncoding = ImageEncoding(),  # noqa: B008 - frozen
        request: str = "",
    ) -> Callable[[], Response]:
        """Send an image, (1, C, H, W) float32, by the current plan; returns a function that waits.

        The response, or an error, arrives within `timeout_s`. `request` is an identifier of 32 hexadecimal
        digits: a repeated request gets the same response; empty makes a new one.
        """
        plan = self._plan
        if not plan.epoch:
            raise DeployError("no plan was shipped yet: call ship() first")
        values, scale, zero = encode_tensor(x, encoding.dtype, encoding.scale, encoding.zero)
        request_id = bytes.fromhex(request) if request else secrets.token_bytes(16)
        frame = Frame(
            Kind.RUN,
            epoch=plan.epoch,
            id=request_id,
            tensors=(TensorSpec(encoding.dtype, x.shape, scale, zero),),
            body=raw_bytes(values),
        )
        expected = ExpectedResponse(request_id, plan.epoch, plan.trail, plan.response_shape)
        started_s = time.monotonic()
        wait = self.clients[plan.trail[0]].start(frame, timeout_s, expected.size_bytes, plan.trail)

        def wait_for_response() -> Response:
            answer = wait()
            round_trip_s = time.monotonic() - started_s
            # A repeated request may get the response to an earlier one, which took longer.
            longest_s = math.inf if request else round_trip_s
            response, logits = parse_run_response(answer, replace(expected, longest_s=longest_s))
            return Response(logits, response.trail, plan.epoch, round_trip_s)

        return wait_for_response

    def infer(
        self,
        x: Float32Array,
        timeout_s: float = 10.0,
        encoding: ImageEncoding = ImageEncoding(),  # noqa: B008
    ) -> Response:
        """Send an image and wait for the response; see `start`. Raises DeviceLostError, DeployError."""
        return self.start(x, timeout_s, encoding)()

    def time_blocks(
        self,
        device: str,
        models: Sequence[bytes],
        job: Mapping[str, Any],
        report: Callable[[TimingEvent], None],
        progress: Progress = no_progress,
    ) -> None:
        """Make a device time blocks, given as ONNX files; see `jmsnas.deploy.agent.remote_timing`.

        `progress` is called with the bytes sent of the files that the device lacks.

        Raises DeviceLostError, DeployError.
        """
        client = self.clients[device]
        digests = [hashlib.sha256(model).hexdigest() for model in models]
        by_digest = dict(zip(digests, models, strict=True))
        content = blob_list_bytes([Blob(digest, len(model)) for digest, model in by_digest.items()])
        _put_missing(client, client.allow(content, self._key.sign(content)), by_digest, progress)
        client.bench({**job, "models": digests}, report)

    def drop(self, names: Sequence[str]) -> None:
        """Disconnect these devices."""
        for name in names:
            self.clients.pop(name).close()
            del self.agents[name]

    def close(self) -> None:
        """Close all channels; the agents keep running."""
        for client in self.clients.values():
            client.close()
        self._liveness.close()

    def _each(self, call: Callable[[AgentClient], T], names: Sequence[str] | None = None) -> dict[str, T]:
        """Call every device in parallel; the first error is raised after all calls have ended."""
        clients = [self.clients[name] for name in (self.clients if names is None else dict.fromkeys(names))]
        with ThreadPoolExecutor(max(1, len(clients))) as pool:
            calls = {client.name: pool.submit(call, client) for client in clients}
        errors = [error for future in calls.values() if (error := future.exception())]
        # A lost device is the cause of errors on its neighbours.
        for error in sorted(errors, key=lambda error: not isinstance(error, DeviceLostError)):
            raise error
        return {name: future.result() for name, future in calls.items()}


def _put_missing(
    client: AgentClient,
    missing: Sequence[str],
    blobs: Mapping[str, bytes],
    progress: Progress = no_progress,
) -> int:
    """Send the blobs that a device lacks; return their bytes. Raises DeployError for one of no offer."""
    wanted = set(missing)
    for digest in wanted:
        if digest not in blobs:
            fault = f"it lacks {digest[:12]}: expected some of the {len(blobs)} files that were offered"
            raise malformed(client.name, "Offer", fault)
    sent_bytes, total_bytes = 0, sum(len(blobs[digest]) for digest in wanted)
    for digest in wanted:
        progress(sent_bytes, total_bytes, f"sending {total_bytes / 1e6:.3g} MB to {client.name}")
        client.put(digest, blobs[digest])
        sent_bytes += len(blobs[digest])
    return total_bytes
