"""Serve requests: by the part of the request's own plan, at most once, within the deadline."""

import time
from typing import Any

import grpc
from msgspec.structs import replace

from jmsnas.arrays import Float32Array
from jmsnas.deploy.agent.admission import (
    AdmissionQueue,
    BranchSum,
    CallerGoneError,
    PendingCall,
    RequestRefusedError,
)
from jmsnas.deploy.agent.deduplication import ResponseCache
from jmsnas.deploy.agent.forwarding import Forwarder
from jmsnas.deploy.agent.part_lifecycle import AgentParts
from jmsnas.deploy.parts.runtime import PartRunner
from jmsnas.deploy.transport.encoding import decode_tensor, raw_bytes
from jmsnas.deploy.transport.frame import DeviceSpan, TensorHeader, pack_message, unpack_tensor
from jmsnas.deploy.transport.health import Health
from jmsnas.deploy.transport.run_response import is_finite
from jmsnas.errors import FrameError

# Deadline of a request that has none, and the longest one.
_DEFAULT_DEADLINE_S, _MAX_DEADLINE_S = 30.0, 600.0
# Longest wait of a branch for the others, whatever the deadline of the request.
_JOIN_S = 10.0

TensorMessage = tuple[TensorHeader, bytes | memoryview]


class RequestHandler:
    """Runs the tensor requests of an agent."""

    def __init__(self, name: str, parts: AgentParts, forwarder: Forwarder, health: Health) -> None:
        self._name, self._parts, self._forwarder, self._health = name, parts, forwarder, health
        self._queue, self._sums = AdmissionQueue(), BranchSum()
        self._responses: ResponseCache[TensorMessage] = ResponseCache()
        self._summed: ResponseCache[TensorMessage] = ResponseCache()

    def run(self, message: bytes, caller: str, context: Any) -> bytes:
        """Run one request. Raises RequestRefusedError, FrameError."""
        remaining_s = context.time_remaining()
        limit_s = min(_DEFAULT_DEADLINE_S if remaining_s is None else remaining_s, _MAX_DEADLINE_S)
        deadline_s = time.monotonic() + limit_s
        header, body = unpack_tensor(message)
        if not self._health.serving:
            raise RequestRefusedError(grpc.StatusCode.UNAVAILABLE, "shutting down")
        part = self._part(header, caller)
        key = (header.epoch, header.id, header.branch)
        call = PendingCall(deadline_s)
        if not context.add_callback(call.hang_up):
            call.hang_up()
        claim, own = self._responses.claim(key)
        while not own:
            try:
                return pack_message(*call.result(claim, deadline_s))
            except TimeoutError:
                code = grpc.StatusCode.DEADLINE_EXCEEDED
                raise RequestRefusedError(code, "the deadline passed") from None
            except CallerGoneError:  # if the first caller: this one runs the request
                if call.gone:
                    raise
            claim, own = self._responses.claim(key)
        try:
            x = decode_tensor(header, body)
            # The transfer ends here: decoding is part of it, as in the measurement of links.
            received_ns = time.monotonic_ns()
            if not is_finite(x):
                raise FrameError("a tensor with a number that is not finite: check the device that sent it")
            response = self._respond(part, header, x, received_ns, call)
        except Exception as error:
            self._responses.fail(key, claim, error)
            raise
        self._responses.complete(claim, response, len(response[1]))
        return pack_message(*response)

    def _part(self, header: TensorHeader, caller: str) -> PartRunner:
        part = self._parts.find(header.epoch)
        if part is None:
            serving = ", ".join(map(str, self._parts.serving)) or "none"
            raise RequestRefusedError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"plan {header.epoch} is not served (served: {serving}): send requests of the newest plan",
            )
        manifest = part.manifest
        if caller and caller not in manifest.sources:
            raise RequestRefusedError(
                grpc.StatusCode.PERMISSION_DENIED, "data from a device that is not a sender of this part"
            )
        if header.shape != manifest.input_shape or header.branch >= max(1, manifest.joined):
            raise FrameError("a tensor whose shape or branch is not the one of this part")
        if caller and manifest.joined and caller != manifest.sources[header.branch]:
            raise RequestRefusedError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"branch {header.branch} from a device that the plan does not name for it",
            )
        return part

    def _respond(
        self, part: PartRunner, header: TensorHeader, x: Float32Array, received_ns: int, call: PendingCall
    ) -> TensorMessage:
        if not part.manifest.joined:
            return self._compute(part, header, x, received_ns, call)
        key = (header.epoch, header.id)
        claim, _ = self._summed.claim(key)
        if claim.done():
            return _of_branch(claim.result(), received_ns)
        total = self._sums.add(key, header.branch, x, part.manifest.joined)
        if total is None:
            try:
                join_s = min(call.deadline_s, time.monotonic() + _JOIN_S)
                return _of_branch(call.result(claim, join_s), received_ns)
            except (TimeoutError, CallerGoneError) as error:
                late = RequestRefusedError(
                    grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before all branches arrived"
                )
                if self._sums.withdraw(key, header.branch):
                    self._summed.fail(key, claim, late)
                raise (late if isinstance(error, TimeoutError) else error) from None
        try:
            response = self._compute(part, header, total, received_ns, call)
        except Exception as error:
            self._summed.fail(key, claim, error)
            raise
        self._summed.complete(claim, response, len(response[1]))
        return response

    def _compute(
        self, part: PartRunner, header: TensorHeader, x: Float32Array, received_ns: int, call: PendingCall
    ) -> TensorMessage:
        manifest = part.manifest
        with self._queue.enter(call):
            started_ns = time.monotonic_ns()
            y = part(x)
            held_s = started_ns * 1e-9 + manifest.hold_s - time.monotonic()
            if manifest.hold_s and held_s > 0:
                time.sleep(held_s)
            ended_ns = time.monotonic_ns()
        span = DeviceSpan(self._name, received_ns, started_ns, ended_ns)
        if manifest.hops:
            # A tensor that is only forwarded keeps its uint8 scale.
            scale, zero = (0.0, 0.0) if y is not x or header.dtype != "u1" else (header.scale, header.zero)
            output = TensorHeader(header.id, header.epoch, "f4", y.shape, scale, zero)
            behind, content = self._forwarder.forward(manifest, output, y, call)
            trail = (span, *behind)
            return TensorHeader(header.id, header.epoch, "f4", manifest.response_shape, trail=trail), content
        return TensorHeader(header.id, header.epoch, "f4", y.shape, trail=(span,)), raw_bytes(y)


def _of_branch(found: TensorMessage, received_ns: int) -> TensorMessage:
    """Return the common response of all branches, with the time at which this branch arrived."""
    header, body = found
    own, *after = header.trail
    # A branch that is sent again arrives after the computation.
    own = own._replace(received_ns=min(received_ns, own.started_ns))
    return replace(header, trail=(own, *after)), body
