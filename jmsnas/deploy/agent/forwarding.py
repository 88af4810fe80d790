"""Forward a part's output directly to the next devices, and collect their responses."""

import math
import threading
import time
from collections.abc import Callable

import grpc

from jmsnas.arrays import Float32Array
from jmsnas.deploy.parts.manifest import Hop, Manifest
from jmsnas.deploy.transport.channel import Identity
from jmsnas.deploy.transport.data_link import Answer, DataLink, Target
from jmsnas.deploy.transport.encoding import encode_tensor, raw_bytes
from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.refusal import RequestRefusedError, refusal
from jmsnas.deploy.transport.run_response import ExpectedResponse, RunResponse, parse_run_response
from jmsnas.errors import DeployError

_REFUSED = grpc.StatusCode.FAILED_PRECONDITION

Result = RunResponse | RequestRefusedError


class Forwarder:
    """Links to the next devices, kept open."""

    def __init__(self, identity: Callable[[], Identity | None], liveness: Liveness) -> None:
        self._identity, self._liveness = identity, liveness
        self._lock = threading.Lock()
        self._links: dict[Target, DataLink] = {}
        self._free_s: dict[str, float] = {}

    def link(self, target: Target) -> DataLink:
        """Return the link to another agent."""
        if (found := self._links.get(target)) is not None:
            return found
        with self._lock:
            if target not in self._links:
                self._links[target] = DataLink(target, self._identity, self._liveness)
            return self._links[target]

    def forward(
        self,
        manifest: Manifest,
        request_id: bytes,
        y: Float32Array,
        kept: TensorSpec | None,
        deadline_s: float,
        done: Callable[[Result], None],
    ) -> "_Responses":
        """Send `y` to every hop of a part; `done` is called once with their common response, or an error.

        `kept` has the scale that a uint8 link keeps; None for the range of `y`. The response has the trail
        behind this device, hop by hop. The hops are sent to in the manifest's order, unless their links are
        paced. An error has the name of the first hop that failed, or that did not respond to this request by
        this plan. Returns the calls, to cancel them.
        """
        collected = _Responses(manifest, request_id, done)
        max_bytes = 4 * math.prod(manifest.response_shape)
        frames = [(hop, *self._frame(hop, manifest.epoch, request_id, y, kept)) for hop in manifest.hops]
        if len(frames) > 1:
            frames.sort(key=lambda entry: entry[2])
        for hop, frame, due_s in frames:
            link = self.link(Target(hop.name, hop.address, hop.fingerprint))
            try:
                cancel = link.request(frame, deadline_s, collected.answer(hop), max_bytes, due_s)
            except RequestRefusedError as error:
                collected.fail(error)
                break
            collected.cancels.append(cancel)
            if collected.ended:
                break
        if collected.ended:  # one has failed: cancel the others
            collected.cancel()
        return collected

    def _frame(
        self, hop: Hop, epoch: int, request_id: bytes, y: Float32Array, kept: TensorSpec | None
    ) -> tuple[Frame, float]:
        """Return the frame for a hop, and when it is due: at once (0), or after wait and paced link."""
        scale, zero = (kept.scale, kept.zero) if kept else (0.0, 0.0)
        values, scale, zero = encode_tensor(y, hop.wire, scale, zero)
        own = TensorSpec(hop.wire, y.shape, scale, zero)
        frame = Frame(Kind.RUN, 0, epoch, request_id, 0.0, hop.branch, (own,), b"", raw_bytes(values))
        if not hop.wait_s and not hop.pace_bps:
            return frame, 0.0
        ready_s = time.monotonic() + hop.wait_s
        if not hop.pace_bps:
            return frame, ready_s
        with self._lock:  # one message after the other, as on the emulated link
            begins_s = max(ready_s, self._free_s.get(hop.address, 0.0))
            free_s = self._free_s[hop.address] = begins_s + 8 * values.nbytes / hop.pace_bps
        return frame, free_s + hop.pace_delay_s

    def close(self) -> None:
        """Close every link."""
        with self._lock:
            for link in self._links.values():
                link.close()
            self._links.clear()


class _Responses:
    """Responses of the hops of one request, until all have arrived or one has failed."""

    def __init__(self, manifest: Manifest, request_id: bytes, done: Callable[[Result], None]) -> None:
        self._manifest, self._request_id = manifest, request_id
        self.cancels: list[Callable[[], None]] = []
        self.ended = False
        self._done, self._lock = done, threading.Lock()
        self._found: dict[str, RunResponse] = {}

    def answer(self, hop: Hop) -> Callable[[Answer], None]:
        """Return the function that takes the answer of a hop."""

        def answered(answer: Answer) -> None:
            if isinstance(answer, RequestRefusedError):
                self.fail(refusal(hop.name, answer, hop.trail))
                return
            epoch, shape = self._manifest.epoch, self._manifest.response_shape
            try:
                expected = ExpectedResponse(self._request_id, epoch, hop.trail, shape)
                response, _ = parse_run_response(answer, expected)
            except DeployError as error:
                self.fail(RequestRefusedError(_REFUSED, str(error)))
                return
            with self._lock:
                self._found[hop.name] = response
                if self.ended or len(self._found) < len(self._manifest.hops):
                    return
                self.ended = True
            self._done(response if len(self._found) == 1 else self._common())

        return answered

    def _common(self) -> Result:
        """Return the one response of all hops, with the trails one after the other."""
        found = [self._found[hop.name] for hop in self._manifest.hops]
        first, *others = found
        if any(response.body != first.body for response in others):
            names = ", ".join(hop.name for hop in self._manifest.hops)
            return RequestRefusedError(_REFUSED, f"devices {names} gave unlike responses to one request")
        trail = tuple(span for response in found for span in response.trail)
        return RunResponse(trail, first.shape, first.body)

    def fail(self, error: RequestRefusedError) -> None:
        """End with the error of a hop, unless another has ended the request."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
        self.cancel()
        self._done(error)

    def cancel(self) -> None:
        """Cancel the calls that have not ended."""
        self.ended = True
        for cancel in self.cancels:
            cancel()
