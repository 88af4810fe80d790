"""Answer a request: by the part of its own plan and no other, at most once, within its deadline."""

import time
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from jmsnas.deploy.agent.admission import AdmissionQueue, BranchSum, RequestRefusedError
from jmsnas.deploy.agent.deduplication import ResponseCache
from jmsnas.deploy.agent.forwarding import Forwarder
from jmsnas.deploy.agent.part_lifecycle import AgentParts
from jmsnas.deploy.parts.runtime import PartRunner
from jmsnas.deploy.transport.encoding import decode_tensor, raw_bytes
from jmsnas.deploy.transport.frame import DeviceSpan, TensorHeader, pack_tensor, unpack_tensor
from jmsnas.deploy.transport.health import Health
from jmsnas.errors import FrameError

# A caller that names no deadline gets this one; nobody gets more than the other.
_USUAL_S, _MOST_S = 30.0, 600.0

Array = NDArray[np.float32]
Reply = tuple[TensorHeader, bytes | memoryview]


class RequestHandler:
    """What an agent does with data."""

    def __init__(self, name: str, parts: AgentParts, hops: Forwarder, health: Health) -> None:
        self._name, self._parts, self._hops, self._health = name, parts, hops, health
        self._gate, self._joins = AdmissionQueue(), BranchSum()
        self._answers: ResponseCache[Reply] = ResponseCache()
        self._joined: ResponseCache[Reply] = ResponseCache()

    def run(self, message: bytes, caller: str, context: Any) -> bytes:
        """Run one request. Raises Refused, FrameError."""
        remaining_s = context.time_remaining()
        ends_s = time.monotonic() + min(_USUAL_S if remaining_s is None else remaining_s, _MOST_S)
        header, body = unpack_tensor(message)
        if not self._health.serving:
            raise RequestRefusedError(grpc.StatusCode.UNAVAILABLE, "shutting down")
        part = self._part(header, caller)
        key = (header.epoch, header.id, header.branch)
        claim, mine = self._answers.claim(key)
        if not mine:
            found = claim.wait(max(0.0, ends_s - time.monotonic()))
            if found is None:
                raise RequestRefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed")
            return pack_tensor(*found)
        try:
            x = decode_tensor(header, body)
            # The transfer ends here: unpacking is part of it, as it is where links are measured.
            answer = self._answer(part, header, x, time.monotonic_ns(), ends_s)
        except Exception as error:
            self._answers.fail(key, claim, error)
            raise
        self._answers.answer(claim, answer, len(answer[1]))
        return pack_tensor(*answer)

    def _part(self, header: TensorHeader, caller: str) -> PartRunner:
        part = self._parts.find(header.epoch)
        if part is None:
            serving = ", ".join(map(str, self._parts.serving)) or "none"
            raise RequestRefusedError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"plan {header.epoch} is not served here, but {serving}: send it by the newest plan",
            )
        manifest = part.manifest
        if caller and caller not in manifest.sources:
            raise RequestRefusedError(
                grpc.StatusCode.PERMISSION_DENIED, "data from a device that is no neighbour here"
            )
        if header.shape != manifest.input_shape or header.branch >= max(1, manifest.joined):
            raise FrameError("a tensor whose shape or branch is not the one of this part")
        return part

    def _answer(
        self, part: PartRunner, header: TensorHeader, x: Array, received_ns: int, ends_s: float
    ) -> Reply:
        if not part.manifest.joined:
            return self._compute(part, header, x, received_ns, ends_s)
        key = (header.epoch, header.id)
        claim, _ = self._joined.claim(key)
        if claim.done.is_set():
            return self._common(claim.wait(0.0), received_ns)
        total = self._joins.bring(key, header.branch, x, part.manifest.joined)
        if total is None:
            found = claim.wait(max(0.0, ends_s - time.monotonic()))
            if found is None and self._joins.leave(key, header.branch):
                late = RequestRefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed in a join")
                self._joined.fail(key, claim, late)
            return self._common(found, received_ns)
        try:
            answer = self._compute(part, header, total, received_ns, ends_s)
        except Exception as error:
            self._joined.fail(key, claim, error)
            raise
        self._joined.answer(claim, answer, len(answer[1]))
        return answer

    def _common(self, found: Reply | None, received_ns: int) -> Reply:
        """Give a branch the common answer, with the time at which this branch came."""
        if found is None:
            raise RequestRefusedError(
                grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before all branches came"
            )
        header, body = found
        own, *after = header.trail
        trail = ((own[0], received_ns, own[2], own[3]), *after)
        return TensorHeader(header.id, header.epoch, header.dtype, header.shape, trail=trail), body

    def _compute(
        self, part: PartRunner, header: TensorHeader, x: Array, received_ns: int, ends_s: float
    ) -> Reply:
        with self._gate.enter(ends_s):
            begun_ns = time.monotonic_ns()
            y = part(x)
            held_s = begun_ns * 1e-9 + part.manifest.hold_s - time.monotonic()
            if part.manifest.hold_s and held_s > 0:
                time.sleep(held_s)
            ended_ns = time.monotonic_ns()
        stop: DeviceSpan = (self._name, received_ns, begun_ns, ended_ns)
        if part.manifest.hops:
            scale, zero = (0.0, 0.0) if y is not x or header.dtype != "u1" else (header.scale, header.zero)
            leaving = TensorHeader(header.id, header.epoch, "f4", y.shape, scale, zero)
            answer, content = self._hops.forward(part.manifest.hops, leaving, y, ends_s)
            trail = (stop, *answer.trail)
            return TensorHeader(header.id, header.epoch, answer.dtype, answer.shape, trail=trail), content
        return TensorHeader(header.id, header.epoch, "f4", y.shape, trail=(stop,)), raw_bytes(y)
