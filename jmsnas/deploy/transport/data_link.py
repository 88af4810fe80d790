"""The sending end of a directed link: one persistent connection, and the requests in flight on it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from itertools import count

import grpc
import msgspec

from jmsnas.deploy.transport.channel import MAX_IN_FLIGHT_PER_CALLER, Identity
from jmsnas.deploy.transport.connection import Connection, ConnectionLostError
from jmsnas.deploy.transport.frame import Frame, Kind, total_bytes
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.refusal import RequestRefusedError, parse_error
from jmsnas.deploy.transport.responses import printable
from jmsnas.deploy.transport.tls import connect
from jmsnas.errors import CertificateError, FrameError

# Every peer sees a renewed certificate within an hour.
_MAX_AGE_S = 3600.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 1.0

Answer = Frame | RequestRefusedError
Done = Callable[[Answer], None]


class Target(msgspec.Struct, frozen=True):
    """A device: its name, HOST:PORT of its data port, and the fingerprint of its certificate."""

    name: str
    address: str
    fingerprint: str


class _Pending(msgspec.Struct, frozen=True):
    """A request in flight: what to call with its answer, its deadline, and the longest body of its answer."""

    done: Done
    deadline_s: float
    max_bytes: int


class _Channel:
    """An open connection with its requests in flight."""

    def __init__(self, target: Target, identity: Callable[[], Identity | None]) -> None:
        self._identity, self.identity = identity, identity()
        connected = connect(target.address, target.name, target.fingerprint, self.identity)
        self.name, self.since_s = target.name, time.monotonic()
        # Replaced by another connection, or to be replaced.
        self.retired = self.outdated = False
        self._lock = threading.Lock()
        self._pending: dict[int, _Pending] = {}
        pin = target.fingerprint if self.identity else ""
        self.connection = Connection(connected, pin, self._admit, lambda: bool(self._pending))
        self._fault: RequestRefusedError | None = None

    @property
    def usable(self) -> bool:
        """Whether further requests may be sent by it."""
        return not (self.connection.reason or self.outdated)

    def add(self, call: int, pending: _Pending) -> None:
        """Add a request. Raises RequestRefusedError when there are too many, or the connection has ended."""
        with self._lock:
            if len(self._pending) >= MAX_IN_FLIGHT_PER_CALLER:
                raise RequestRefusedError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"device {self.name}: too many requests in flight: send fewer, or later",
                )
            if self._fault is not None:
                raise self._fault
            self._pending[call] = pending

    def take(self, call: int) -> _Pending | None:
        """Remove a request that has ended; None if it has ended before."""
        with self._lock:
            return self._pending.pop(call, None)

    def cancel(self, call: int) -> _Pending | None:
        """Remove a request, and tell the device that nobody waits for it; None if it has ended before."""
        found = self.take(call)
        if found is not None:
            with suppress(ConnectionLostError, RequestRefusedError):
                self.connection.send(Frame(Kind.CANCEL, call))
        return found

    def tick(self, now_s: float) -> None:
        """End requests whose deadline has passed; close a retired connection when it is not used any more."""
        self.connection.tick(now_s)
        if now_s - self.since_s > _MAX_AGE_S or self._identity() != self.identity:
            self.outdated = True
        with self._lock:
            late = [call for call, one in self._pending.items() if one.deadline_s < now_s]
        for call in late:
            if (pending := self.cancel(call)) is not None:  # else its answer has arrived meanwhile
                pending.done(deadline_passed(self.name))
        if self.retired and not self._pending:
            self.connection.close("closed")

    def read(self) -> None:
        """Hand over answers until the connection ends, and then its end to all requests in flight."""
        fault = lost(self.name)
        try:
            while True:
                frame = self.connection.receive()
                assert frame is not None
                if frame.kind is Kind.ERROR and not frame.call:  # of the connection
                    fault = _error_of(self.name, frame)
                elif (pending := self.take(frame.call)) is not None:
                    pending.done(_error_of(self.name, frame) if frame.kind is Kind.ERROR else frame)
        except FrameError as error:
            fault = _malformed(self.name, error)
        except ConnectionLostError as error:
            if fault.code is grpc.StatusCode.UNAVAILABLE:
                fault = lost(self.name, str(error))
        finally:
            self.connection.release()
            with self._lock:
                self._fault = fault
                ended, self._pending = self._pending, {}
            for pending in ended.values():
                pending.done(fault)

    def _admit(self, frame: Frame) -> bool:
        pending = self._pending.get(frame.call)
        return total_bytes(frame.tensors) <= (pending.max_bytes if pending else 0)


class DataLink:
    """Sends requests to one device, and calls a function with the answer to each.

    The connection is opened for the first request, again after a failure (0.1 to 1 s later), after an hour,
    and when `identity` returns a renewed certificate. Call `close` at the end.
    """

    def __init__(self, target: Target, identity: Callable[[], Identity | None], liveness: Liveness) -> None:
        self.target = target
        self._identity, self._liveness = identity, liveness
        self._lock = threading.Lock()
        self._channel: _Channel | None = None
        self._channels: set[_Channel] = set()
        self._opening: Future[_Channel] | None = None
        self._calls = count(1)
        self._retry_s, self._backoff_s, self._fault = 0.0, 0.0, ""
        self._closed = False

    def request(
        self, frame: Frame, deadline_s: float, done: Done, max_bytes: int, due_s: float = 0.0
    ) -> Callable[[], None]:
        """Send a request, not before `due_s`; `done` is called once with the answer, or the error.

        The call and the time left are written into `frame`.

        An answer with a body of more than `max_bytes` loses it. Returns a function that cancels the request:
        `done` is then not called any more. Raises RequestRefusedError where it cannot be sent.
        """
        channel, call = self.open(deadline_s), next(self._calls) % 0xFFFFFFFF + 1
        channel.add(call, _Pending(done, deadline_s, max_bytes))
        frame.call, frame.left_s = call, deadline_s - max(due_s, time.monotonic())
        try:
            channel.connection.send(frame, due_s)
        except (ConnectionLostError, RequestRefusedError) as error:
            if channel.take(call) is not None:  # else the reading thread has reported it
                refused = isinstance(error, RequestRefusedError)
                raise error if refused else lost(self.target.name, str(error)) from None

        def cancel() -> None:
            channel.cancel(call)

        return cancel

    def wait(self, frame: Frame, timeout_s: float, max_bytes: int) -> Callable[[], Frame]:
        """Send a request; returns a function that waits for the answer, and raises RequestRefusedError."""
        answered, found = threading.Lock(), list[Answer]()
        answered.acquire()
        deadline_s = time.monotonic() + timeout_s

        def done(answer: Answer) -> None:
            in_time = time.monotonic() <= deadline_s
            found.append(answer if in_time else deadline_passed(self.target.name))
            answered.release()

        cancel = self.request(frame, deadline_s, done, max_bytes)

        def wait() -> Frame:
            if not answered.acquire(timeout=max(0.0, deadline_s - time.monotonic())):
                cancel()
                raise deadline_passed(self.target.name)
            (answer,) = found
            if isinstance(answer, RequestRefusedError):
                raise answer
            return answer

        return wait

    def open(self, deadline_s: float) -> _Channel:
        """Return the current connection, or open one until the deadline. Raises RequestRefusedError."""
        if (current := self._channel) is not None and current.usable:
            return current
        with self._lock:
            if (current := self._channel) is not None and current.usable:
                return current
            if self._closed or time.monotonic() < self._retry_s:
                raise lost(self.target.name, self._fault)
            if (opening := self._opening) is None:
                opening = self._opening = Future()
                # Connecting may take longer than the deadline of one request.
                name = f"to {self.target.name}"
                threading.Thread(target=self._run, args=(opening,), name=name, daemon=True).start()
        try:
            return opening.result(max(0.0, deadline_s - time.monotonic()))
        except TimeoutError:
            raise deadline_passed(self.target.name) from None

    def close(self) -> None:
        """End the connection, and all requests in flight."""
        with self._lock:
            self._closed, self._fault = True, "the link is closed"
            for channel in self._channels:  # replaced ones too, which have requests in flight
                channel.connection.close("closed")

    def _run(self, opening: "Future[_Channel]") -> None:
        """Open a connection, and read from it until it ends."""
        try:
            channel = _Channel(self.target, self._identity)
        except Exception as error:
            with self._lock:
                self._backoff_s = min(_LAST_RETRY_S, 2 * self._backoff_s or _FIRST_RETRY_S)
                self._retry_s = time.monotonic() + self._backoff_s
                self._fault, self._opening = cause_of(error), None
            opening.set_exception(lost(self.target.name, self._fault))
            return
        with self._lock:
            if self._channel is not None:
                self._channel.retired = True
            self._backoff_s, self._channel, self._opening = 0.0, channel, None
            self._channels.add(channel)
            if self._closed:
                channel.connection.close("closed")
        opening.set_result(channel)
        self._liveness.watch(channel.tick)
        channel.read()
        self._liveness.forget(channel.tick)
        with self._lock:
            self._channels.discard(channel)


def lost(name: str, reason: str = "") -> RequestRefusedError:
    """Return the error of a device that cannot be reached."""
    text = f"device {name}: UNAVAILABLE{f' ({reason})' if reason else ''}"
    return RequestRefusedError(grpc.StatusCode.UNAVAILABLE, text)


def deadline_passed(name: str) -> RequestRefusedError:
    """Return the error of a request whose deadline has passed."""
    text = f"device {name}: the deadline passed"
    return RequestRefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, text)


def _error_of(name: str, frame: Frame) -> RequestRefusedError:
    try:
        return parse_error(frame.text)
    except FrameError as error:
        return _malformed(name, error)


def _malformed(name: str, error: FrameError) -> RequestRefusedError:
    text = f"device {name}: malformed response (data): {error}"
    return RequestRefusedError(grpc.StatusCode.INTERNAL, text)


def cause_of(error: Exception) -> str:
    """Describe why a connection failed, without the address."""
    if isinstance(error, OSError):
        # verify_message: of a certificate that was refused.
        text = getattr(error, "verify_message", "") or error.strerror or str(error) or type(error).__name__
        return printable(str(text))
    return printable(str(error)) if isinstance(error, CertificateError) else type(error).__name__
