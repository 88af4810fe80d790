"""The data port of an agent: accepts connections, and runs the requests that arrive on each in its thread."""

import selectors
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import grpc
import msgspec

from jmsnas.deploy.agent.forwarding import Result
from jmsnas.deploy.agent.request_handler import Call, RequestHandler
from jmsnas.deploy.transport.channel import Identity
from jmsnas.deploy.transport.connection import Connection, ConnectionLostError
from jmsnas.deploy.transport.encoding import decode_tensor
from jmsnas.deploy.transport.frame import Frame, Kind
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.refusal import RequestRefusedError, as_refusal, error_text
from jmsnas.deploy.transport.responses import ExchangeTimes
from jmsnas.deploy.transport.run_response import response_frame
from jmsnas.deploy.transport.tls import peer_fingerprint, server_context
from jmsnas.errors import CertificateError, FrameError

# Connections at a time, in all and of one device; those whose handshake has not ended.
MAX_CONNECTIONS, MAX_CONNECTIONS_PER_PEER, _MAX_HANDSHAKES = 64, 16, 256
# Connections without a handshake are closed within three seconds, as on the control port.
_HANDSHAKE_S, _SELECT_S = 2.5, 0.25
# Time in which a caller must read some of its responses.
_STALL_S = 10.0
_LOG_EVERY_S = 10.0


class DataServer:
    """Accepts connections of other devices and the leader, and serves each in a thread."""

    def __init__(
        self,
        name: str,
        handler: RequestHandler,
        identity: Callable[[], Identity | None],
        liveness: Liveness,
        log: Callable[[str], None],
    ) -> None:
        self._name, self._handler, self._identity = name, handler, identity
        self._liveness, self._log = liveness, log
        self._lock = threading.Lock()
        self._sessions: set[_Session] = set()
        self._listening: socket.socket | None = None
        self._stopping = False
        self._accepting = threading.Thread(target=self._accept, name="data-accept", daemon=True)
        self._logged_s = -_LOG_EVERY_S

    def listen(self, host: str, port: int) -> int:
        """Bind the port, 0 for a free one, and return it. Raises OSError."""
        if self._listening is not None:
            self._listening.close()
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family, backlog=512)
        self._listening.setblocking(False)
        return int(self._listening.getsockname()[1])

    def start(self) -> None:
        """Accept connections from now on."""
        self._liveness.watch(self._handler.tick)
        self._accepting.start()

    def stop(self) -> None:
        """End all connections, and accept none any more."""
        self._stopping = True
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.connection.close("the agent has ended")
        if self._accepting.is_alive():
            self._accepting.join()  # it must not use a socket that is closed
        if self._listening is not None:
            self._listening.close()

    def _accept(self) -> None:
        """Accept connections and advance their handshakes, none of which can delay another."""
        listening = self._listening
        assert listening is not None
        handshakes: dict[socket.socket, float] = {}
        with selectors.DefaultSelector() as selector:
            selector.register(listening, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select(_SELECT_S):
                    if key.fileobj is listening:
                        self._accept_one(listening, selector, handshakes)
                    else:
                        self._advance(key.fileobj, selector, handshakes)  # type: ignore[arg-type]
                now_s = time.monotonic()
                while handshakes and (
                    len(handshakes) > _MAX_HANDSHAKES or next(iter(handshakes.values())) < now_s
                ):
                    _abandon(next(iter(handshakes)), selector, handshakes)
            for connecting in list(handshakes):
                _abandon(connecting, selector, handshakes)

    def _accept_one(
        self,
        listening: socket.socket,
        selector: selectors.BaseSelector,
        handshakes: dict[socket.socket, float],
    ) -> None:
        try:
            connected, _ = listening.accept()
        except BlockingIOError:
            return
        except OSError:  # the listening socket was closed, or there are too many open files
            time.sleep(0.05)
            return
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Unacknowledged responses: the host of the caller, or the link, is gone. Not where requests are
            # sent: Linux counts the time in which a device that runs a request reads nothing.
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * _STALL_S))
            connected.setblocking(False)
            identity = self._identity()
            if identity is None:
                self._open(connected)
                return
            encrypted = server_context(identity).wrap_socket(
                connected, server_side=True, do_handshake_on_connect=False
            )
        except (OSError, CertificateError):
            connected.close()
            return
        handshakes[encrypted] = time.monotonic() + _HANDSHAKE_S
        selector.register(encrypted, selectors.EVENT_READ)
        self._advance(encrypted, selector, handshakes)

    def _advance(
        self,
        connecting: ssl.SSLSocket,
        selector: selectors.BaseSelector,
        handshakes: dict[socket.socket, float],
    ) -> None:
        try:
            connecting.do_handshake()
        except ssl.SSLWantReadError:
            selector.modify(connecting, selectors.EVENT_READ)
            return
        except ssl.SSLWantWriteError:
            selector.modify(connecting, selectors.EVENT_WRITE)
            return
        except (OSError, ValueError):
            _abandon(connecting, selector, handshakes)
            return
        selector.unregister(connecting)
        del handshakes[connecting]
        self._open(connecting)

    def _open(self, connected: socket.socket) -> None:
        """Serve a connection in a thread, or refuse it when there are too many."""
        try:
            session = _Session(self._name, connected, self._handler)
        except (OSError, ValueError, CertificateError):  # it has ended, or its certificate cannot be read
            connected.close()
            return
        with self._lock:
            peers = Counter(one.connection.peer for one in self._sessions)
            own = peers[session.connection.peer] if session.connection.peer else 0
            full = len(self._sessions) >= MAX_CONNECTIONS or own >= MAX_CONNECTIONS_PER_PEER
            if not full:
                self._sessions.add(session)
        if full or self._stopping:
            error = RequestRefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"device {self._name}: too many connections: close some"
            )
            with suppress(ConnectionLostError, RequestRefusedError):
                session.connection.send(Frame(Kind.ERROR, text=error_text(error)))
            session.connection.release()
            return
        threading.Thread(target=self._serve, args=(session,), name="data-session", daemon=True).start()

    def _serve(self, session: "_Session") -> None:
        self._liveness.watch(session.connection.tick)
        try:
            session.serve()
        except FrameError as error:
            if time.monotonic() - self._logged_s > _LOG_EVERY_S:  # a hostile peer does not fill the disk
                self._logged_s = time.monotonic()
                self._log(f"a connection of {session.connection.peer[:12] or 'loopback'} was closed: {error}")
        finally:
            self._liveness.forget(session.connection.tick)
            session.end()
            with self._lock:
                self._sessions.discard(session)


def _abandon(
    connecting: socket.socket, selector: selectors.BaseSelector, handshakes: dict[socket.socket, float]
) -> None:
    """Close a connection whose handshake has failed, or takes too long."""
    with suppress(KeyError, ValueError):
        selector.unregister(connecting)
    handshakes.pop(connecting, None)
    with suppress(OSError):
        connecting.close()


class _Session:
    """A connection from another device, and its calls in progress."""

    def __init__(self, name: str, connected: socket.socket, handler: RequestHandler) -> None:
        self.connection = Connection(
            connected, peer_fingerprint(connected), self._admit, lambda: bool(self._calls), _STALL_S
        )
        self._name, self._handler = name, handler
        self._calls: dict[int, Call] = {}
        self._waiting: dict[int, tuple[Call, Frame]] = {}
        self._admitted: Call | None = None
        self._fault: ConnectionLostError | FrameError | None = None

    def serve(self) -> None:
        """Read requests, and run them one after the other, until the connection ends. Raises FrameError.

        What has arrived is read before a request is run, until the queue is full, and all of it while the
        request waits for the processor. So a cancelled one is not run, a burst that an idle device can serve
        is served, and those that are too many for a busy device are refused soon.
        """
        with suppress(ConnectionLostError):
            while True:
                self._read(wait=not self._waiting, until_full=True)
                if self._fault is not None:
                    raise self._fault
                if self._waiting:
                    self._handler.run(*self._waiting.pop(next(iter(self._waiting))), self._read)

    def _read(self, wait: bool = False, until_full: bool = False) -> None:
        """Handle what has arrived, of which there is something after a `wait`; keep an error for `serve`.

        `until_full` stops where the queue is full and has a request of this connection.

        The end of the connection ends its calls, that which waits for the processor too.
        """
        try:
            while self._fault is None and (frame := self.connection.receive(wait)) is not None:
                if frame.body is not None:
                    self._handle(frame)
                wait = False
                if until_full and self._waiting and self._handler.full:
                    return
        except (ConnectionLostError, FrameError) as error:
            self._fault = error
            for call in list(self._calls.values()):
                self._handler.hang_up(call)

    def _admit(self, frame: Frame) -> bool:
        """Check the head of a frame; return whether its body is to be read. Raises FrameError."""
        if frame.kind is Kind.RUN:
            try:
                if frame.call in self._calls or not frame.call:
                    raise FrameError(f"a call with the number {frame.call}, which is in use")
                reply = self._replier(frame.call, frame.epoch, frame.id)
                self._admitted = self._handler.admit(frame, self.connection.peer, reply)
            except (RequestRefusedError, FrameError) as error:
                self._send(frame.call, frame.epoch, frame.id, as_refusal(self._name, error))
                return False
            self._calls[frame.call] = self._admitted
            return True
        if frame.kind not in (Kind.EXCHANGE, Kind.CANCEL, Kind.HEARTBEAT):
            raise FrameError(f"a frame of kind {frame.kind.name} from a caller")
        if len(frame.tensors) != (frame.kind is Kind.EXCHANGE):
            raise FrameError(f"a frame of kind {frame.kind.name} with {len(frame.tensors)} tensors")
        return True

    def _handle(self, frame: Frame) -> None:
        if frame.kind is Kind.RUN:
            assert self._admitted is not None  # frames are read one after the other
            if self._handler.enqueue(self._admitted):
                self._waiting[frame.call] = self._admitted, frame
            self._admitted = None
        elif frame.kind is Kind.CANCEL:
            if (waiting := self._waiting.pop(frame.call, None)) is not None:
                self._handler.drop(waiting[0])
            if (call := self._calls.pop(frame.call, None)) is not None:
                self._handler.hang_up(call)
        else:
            assert frame.body is not None
            decode_tensor(frame.tensors[0], frame.body)
            received_ns = time.monotonic_ns()
            times = ExchangeTimes(received_ns, time.monotonic_ns())
            with suppress(ConnectionLostError, RequestRefusedError):
                self.connection.send(Frame(Kind.TIMES, frame.call, text=msgspec.json.encode(times)))

    def _replier(self, call: int, epoch: int, request_id: bytes) -> Callable[[Result], None]:
        def reply(result: Result) -> None:
            self._calls.pop(call, None)
            self._send(call, epoch, request_id, result)

        return reply

    def _send(self, call: int, epoch: int, request_id: bytes, result: Result) -> None:
        if isinstance(result, RequestRefusedError):
            answer = Frame(Kind.ERROR, call, epoch, request_id, text=error_text(result))
        else:
            answer = response_frame(result, call, epoch, request_id)
        try:
            self.connection.send(answer)
        except ConnectionLostError:
            pass
        except RequestRefusedError as error:
            self.connection.close(str(error))

    def end(self) -> None:
        """End the calls in progress, and close the socket."""
        for call, _ in self._waiting.values():
            self._handler.drop(call)
        for call in list(self._calls.values()):
            self._handler.hang_up(call)
        self.connection.release()
