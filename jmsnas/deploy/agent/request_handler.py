"""Serve requests: by the part of the request's own plan, at most once, within the deadline.

A request is run by the thread that reads it, without waiting for anything but the processor. The response of
the devices behind is handed over by the thread that reads it, to every call that waits for it.
"""

import threading
import time
from collections.abc import Callable, Sequence
from operator import attrgetter

import grpc
import msgspec
import numpy as np

from jmsnas.arrays import Float32Array
from jmsnas.deploy.agent.admission import MEANWHILE_S, Places, Processor
from jmsnas.deploy.agent.deduplication import ResponseCache
from jmsnas.deploy.agent.forwarding import Forwarder, Result
from jmsnas.deploy.agent.part_lifecycle import AgentParts
from jmsnas.deploy.parts.runtime import PartRunner
from jmsnas.deploy.transport.channel import MAX_IN_FLIGHT, MAX_IN_FLIGHT_PER_CALLER
from jmsnas.deploy.transport.encoding import decode_tensor, raw_bytes
from jmsnas.deploy.transport.frame import Frame
from jmsnas.deploy.transport.health import Health
from jmsnas.deploy.transport.refusal import RequestRefusedError, as_refusal
from jmsnas.deploy.transport.run_response import DeviceSpan, RunResponse, is_finite
from jmsnas.errors import FrameError

# The longest deadline, and the longest wait of a branch for the others, whatever the deadline of the request.
_MAX_DEADLINE_S, _JOIN_S = 600.0, 10.0

_Key = tuple[int, bytes, int]


class Call(msgspec.Struct, eq=False):
    """A call of a device that waits for the response to a request.

    `reply` is called at most once, with the response or an error, and not after `RequestHandler.hang_up`.
    """

    caller: str
    part: PartRunner
    reply: Callable[[Result], None]
    deadline_s: float
    ended: bool = False
    execution: "_Execution | None" = None


class _Execution(msgspec.Struct, eq=False):
    """One execution of a request, for all calls that wait for its response."""

    key: _Key
    deadline_s: float
    calls: list[Call]
    received_ns: int = 0
    ended: bool = False
    abandoned: bool = False
    cancels: list[Callable[[], None]] = []


_ABANDONED = attrgetter("abandoned")


class _Branch(msgspec.Struct, frozen=True):
    """A branch that waits for the others of its request, until `deadline_s`."""

    execution: _Execution
    x: Float32Array
    deadline_s: float


class RequestHandler:
    """Runs the requests of an agent: `admit` when the head of one has arrived, then `enqueue` and `run`."""

    def __init__(self, name: str, parts: AgentParts, forwarder: Forwarder, health: Health) -> None:
        self._name, self._parts, self._forwarder, self._health = name, parts, forwarder, health
        self._places, self._processor = Places(MAX_IN_FLIGHT, MAX_IN_FLIGHT_PER_CALLER), Processor()
        self._responses: ResponseCache[RunResponse] = ResponseCache()
        # Guards the places, the responses, the executions and the joins.
        self._lock = threading.Lock()
        self._executions: dict[_Key, _Execution] = {}
        self._joins: dict[tuple[int, bytes], dict[int, _Branch]] = {}

    @property
    def in_flight(self) -> int:
        """Number of calls that have not ended."""
        return self._places.taken

    @property
    def full(self) -> bool:
        """Whether the queue takes no more requests."""
        return self._processor.full

    def admit(self, frame: Frame, caller: str, reply: Callable[[Result], None]) -> Call:
        """Check the head of a request, and take a place for it. Raises RequestRefusedError and FrameError.

        `caller` is the fingerprint of the caller's certificate, empty without TLS.
        """
        if not self._health.serving:
            raise RequestRefusedError(grpc.StatusCode.UNAVAILABLE, "shutting down")
        part = self._part(frame, caller)
        deadline_s = time.monotonic() + min(frame.left_s, _MAX_DEADLINE_S)
        with self._lock:
            self._places.take(caller)
        return Call(caller, part, reply, deadline_s)

    def enqueue(self, call: Call) -> bool:
        """Queue a request whose body has arrived, before `run` or `drop`; refuse it where too many wait.

        Not before its body has: one device could fill the queue with bodies that never end.
        """
        try:
            self._processor.enqueue()
        except RequestRefusedError as error:
            self._reply(call, as_refusal(self._name, error))
            return False
        return True

    def _part(self, frame: Frame, caller: str) -> PartRunner:
        part = self._parts.find(frame.epoch)
        if part is None:
            serving = ", ".join(map(str, self._parts.serving)) or "none"
            raise RequestRefusedError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"plan {frame.epoch} is not served (served: {serving}): send requests of the newest plan",
            )
        manifest = part.manifest
        if caller and caller not in manifest.sources:
            raise RequestRefusedError(
                grpc.StatusCode.PERMISSION_DENIED, "data from a device that is not a sender of this part"
            )
        tensors = frame.tensors
        fits = len(tensors) == 1 and tensors[0].shape == manifest.input_shape
        if not fits or frame.branch >= max(1, manifest.joined):
            raise FrameError("a tensor whose shape or branch is not the one of this part")
        if caller and manifest.joined and caller != manifest.sources[frame.branch]:
            raise RequestRefusedError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"branch {frame.branch} from a device that the plan does not name for it",
            )
        return part

    def run(self, call: Call, frame: Frame, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Run a request of the queue; errors are the reply.

        `meanwhile` is called again and again while the request waits for the processor.
        """
        key = frame.epoch, frame.id, frame.branch
        with self._lock:
            response = self._responses.get(key)
            execution = self._executions.get(key)
            new = response is None and execution is None and not call.ended
            if new:
                execution = self._executions[key] = _Execution(key, call.deadline_s, [])
            if response is None and execution is not None and not call.ended:
                execution.calls.append(call)
                call.execution = execution
        if not new:
            self._processor.leave()
            if response is not None:
                self._reply(call, response)
            return
        assert execution is not None
        joined = [execution]
        waiting = True
        try:
            assert frame.body is not None
            x = decode_tensor(frame.tensors[0], frame.body)
            # The transfer ends here: decoding is part of it, as in the measurement of links.
            execution.received_ns = time.monotonic_ns()
            if not is_finite(x):
                raise FrameError("a tensor with a number that is not finite: check the device that sent it")
            if call.part.manifest.joined:
                branches = self._join(execution, x, call.part.manifest.joined)
                if branches is None:
                    return
                joined = [branch.execution for branch in branches]
                x = _sum([branch.x for branch in branches])
            waiting = False
            self._compute(call.part, frame, x, joined, meanwhile)
        except Exception as error:
            self._finish(joined, as_refusal(self._name, error))
        finally:
            if waiting:
                self._processor.leave()

    def _join(self, execution: _Execution, x: Float32Array, expected: int) -> list[_Branch] | None:
        """Add a branch to its request; return all branches, in order, when this is the last; else None."""
        epoch, request_id, branch = execution.key
        deadline_s = min(execution.deadline_s, time.monotonic() + _JOIN_S)
        with self._lock:
            if execution.abandoned:
                return None
            branches = self._joins.setdefault((epoch, request_id), {})
            branches[branch] = _Branch(execution, x, deadline_s)
            if len(branches) < expected:
                return None
            del self._joins[epoch, request_id]
        return [branches[n] for n in sorted(branches)]

    def _compute(
        self,
        part: PartRunner,
        frame: Frame,
        x: Float32Array,
        executions: Sequence[_Execution],
        meanwhile: Callable[[], None],
    ) -> None:
        """Run the part, and send its output to the next devices, or the response to the calls."""
        manifest, deadline_s = part.manifest, executions[0].deadline_s
        if len(executions) > 1:
            deadline_s = max(execution.deadline_s for execution in executions)

        def waiting() -> None:
            meanwhile()
            _check_callers(executions)

        self._processor.acquire(deadline_s, waiting)
        try:
            _check_callers(executions)
            started_ns = time.monotonic_ns()
            y = part(x)
            if manifest.hold_s:
                _hold(min(started_ns * 1e-9 + manifest.hold_s, deadline_s), meanwhile)
            ended_ns = time.monotonic_ns()
        finally:
            self._processor.release()
        own = DeviceSpan(self._name, 0, started_ns, ended_ns)
        if not manifest.hops:
            self._finish(executions, RunResponse((), y.shape, raw_bytes(y)), own)
            return
        # A tensor that is only forwarded keeps its uint8 scale, and so its bytes.
        kept = frame.tensors[0] if y is x and frame.tensors[0].dtype == "u1" else None

        def done(result: Result) -> None:
            self._finish(executions, result, own)

        responses = self._forwarder.forward(manifest, frame.id, y, kept, deadline_s, done)

        def cancel_if_abandoned() -> None:
            if _abandoned(executions):
                responses.cancel()

        with self._lock:
            for execution in executions:
                if not execution.ended:
                    execution.cancels.append(cancel_if_abandoned)
        cancel_if_abandoned()

    def _finish(
        self, executions: Sequence[_Execution], result: Result, span: DeviceSpan | None = None
    ) -> None:
        """Reply to all calls of a request; keep a response, and forget a request that has failed.

        `span` is that of this device, which each response lists first, with the arrival of its own branch.
        """
        for execution in executions:
            own = result
            if isinstance(result, RunResponse) and span is not None:
                # A branch that is sent again arrives after the computation.
                received_ns = min(execution.received_ns, span.started_ns)
                first = DeviceSpan(span.device, received_ns, span.started_ns, span.ended_ns)
                own = RunResponse((first, *result.trail), result.shape, result.body)
            with self._lock:
                if isinstance(own, RunResponse):
                    self._responses.put(execution.key, own, len(own.body))
                self._drop(execution)
                calls, execution.calls = execution.calls, []
                # A cycle of references would keep the tensors until the next garbage collection.
                execution.ended, execution.cancels = True, []
                waiting = [call for call in calls if self._end(call)]
            for call in waiting:
                call.reply(own)

    def _drop(self, execution: _Execution) -> None:
        """Forget an execution, the lock being held."""
        if self._executions.get(execution.key) is execution:
            del self._executions[execution.key]
        epoch, request_id, branch = execution.key
        waiting = self._joins.get((epoch, request_id)) if self._joins else None
        if waiting and branch in waiting and waiting[branch].execution is execution:
            del waiting[branch]
            if not waiting:
                del self._joins[epoch, request_id]

    def _reply(self, call: Call, result: Result) -> None:
        with self._lock:
            waiting = self._end(call)
        if waiting:
            call.reply(result)

    def _end(self, call: Call) -> bool:
        """Give the place of a call back, the lock being held; return whether it had not ended before."""
        if call.ended:
            return False
        call.ended = True
        self._places.leave(call.caller)
        return True

    def drop(self, call: Call) -> None:
        """Take a request whose caller has gone out of the queue."""
        self._processor.leave()
        with self._lock:
            self._end(call)

    def hang_up(self, call: Call) -> None:
        """End a call whose caller has gone, and its execution, if no other call waits for it."""
        with self._lock:
            self._end(call)
            execution = call.execution
            if execution is None or call not in execution.calls:
                return
            execution.calls.remove(call)
            if execution.calls:
                return
            execution.ended = execution.abandoned = True
            cancels, execution.cancels = execution.cancels, []
            self._drop(execution)
        for cancel in cancels:
            cancel()

    def tick(self, now_s: float) -> None:
        """End the branches that have waited too long for the others of their requests."""
        with self._lock:
            late = [
                branch.execution
                for branches in self._joins.values()
                for branch in branches.values()
                if branch.deadline_s < now_s
            ]
        error = RequestRefusedError(
            grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before all branches arrived"
        )
        for execution in late:
            self._finish([execution], as_refusal(self._name, error))


def _abandoned(executions: Sequence[_Execution]) -> bool:
    """Return whether nobody waits for a request any more."""
    return all(map(_ABANDONED, executions))


def _check_callers(executions: Sequence[_Execution]) -> None:
    """Raise RequestRefusedError when nobody waits for a request any more."""
    if _abandoned(executions):
        raise RequestRefusedError(grpc.StatusCode.CANCELLED, "the caller has hung up")


def _hold(until_s: float, meanwhile: Callable[[], None]) -> None:
    """Wait as long as an emulated device would compute."""
    while (left_s := until_s - time.monotonic()) > 2 * MEANWHILE_S:
        time.sleep(MEANWHILE_S)
        meanwhile()
    time.sleep(max(0.0, left_s))


def _sum(tensors: Sequence[Float32Array]) -> Float32Array:
    """Sum tensors in their order, as floating-point addition is not associative."""
    total = tensors[0].copy()
    with np.errstate(over="ignore"):
        for other in tensors[1:]:
            total += other
    return total
