"""The data port of an agent, with parts that compute nothing, and callers that send what they like."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import msgspec
import numpy as np
import pytest
from data_peers import LIMIT_S, RawPeer, identity_of, pin_of, wait_until
from msgspec.structs import replace
from relays import handler_of, relay, run_frame

from jmsnas.deploy.agent import data_server
from jmsnas.deploy.agent.data_server import MAX_CONNECTIONS, MAX_CONNECTIONS_PER_PEER, DataServer
from jmsnas.deploy.agent.request_handler import RequestHandler
from jmsnas.deploy.parts.runtime import PartRunner
from jmsnas.deploy.transport import connection
from jmsnas.deploy.transport.certificates import make_certificates
from jmsnas.deploy.transport.channel import MAX_QUEUED, Identity
from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec, pack_head
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.refusal import RequestRefusedError, parse_error
from jmsnas.deploy.transport.responses import ExchangeTimes
from jmsnas.deploy.transport.tls import client_context

X = np.arange(4, dtype=np.float32).tobytes()
DEVICES = ("pi4", "laptop", "jetson", "orin", "cloud", "desk")


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder, DEVICES)
    return folder


@dataclass
class Served:
    """A data port, and connections to it."""

    server: DataServer
    handler: RequestHandler
    address: tuple[str, int]
    stack: ExitStack
    log: list[str]

    def connect(self, identity: Identity | None = None) -> RawPeer:
        connected = socket.create_connection(self.address, LIMIT_S)
        self.stack.callback(connected.close)
        if identity is not None:
            connected = client_context(identity).wrap_socket(connected, server_hostname="cloud.jmsnas")
            self.stack.callback(connected.close)
        return RawPeer(connected)


@contextmanager
def serving(part: PartRunner, identity: Identity | None = None) -> Iterator[Served]:
    handler, liveness, log = handler_of(part), Liveness(), list[str]()
    server = DataServer("cloud", handler, lambda: identity, liveness, log.append)
    address = "127.0.0.1", server.listen("127.0.0.1", 0)
    server.start()
    with ExitStack() as stack:
        try:
            yield Served(server, handler, address, stack, log)
        finally:
            server.stop()
            liveness.close()


def answer(peer: RawPeer) -> Frame:
    """Wait for the next frame that is no heartbeat."""
    while (frame := peer.next()) is not None and frame.kind is Kind.HEARTBEAT:
        pass
    assert frame is not None, "the connection has ended"
    return frame


def error(peer: RawPeer) -> tuple[int, RequestRefusedError]:
    frame = answer(peer)
    assert frame.kind is Kind.ERROR
    return frame.call, parse_error(frame.text)


def has_ended(peer: RawPeer) -> None:
    """Wait for the end of a connection."""
    try:
        while peer.next() is not None:
            pass
    except OSError as fault:
        assert not isinstance(fault, TimeoutError)


def ask(peer: RawPeer, call: int) -> None:
    """Send a request, and check its answer."""
    peer.send(run_frame(call, X))
    frame = answer(peer)
    assert (frame.kind, frame.call, frame.body) == (Kind.RESULT, call, X)


def test_requests_are_answered_on_their_connection(certs: Path) -> None:
    pi4, laptop = identity_of(certs, "pi4"), identity_of(certs, "laptop")
    part = relay(sources=(pin_of(pi4),))
    with serving(part, identity_of(certs, "cloud")) as served:
        peers = [served.connect(pi4) for _ in range(2)]
        for call in (1, 2, 0xFFFFFFFF):
            for n, peer in enumerate(peers):
                peer.send(run_frame(call, X, b"request %d of %d" % (call % 100, n)))
            for peer in peers:
                frame = answer(peer)
                assert (frame.kind, frame.call, frame.body) == (Kind.RESULT, call, X)
        # The caller is known by the key of its certificate.
        other = served.connect(laptop)
        other.send(run_frame(1, X))
        call, refusal = error(other)
        assert (call, refusal.code) == (1, grpc.StatusCode.PERMISSION_DENIED)
        assert str(refusal) == "device cloud: data from a device that is not a sender of this part"


def test_connections_are_bounded() -> None:
    with serving(relay()) as served:
        peers = [served.connect() for _ in range(MAX_CONNECTIONS)]
        wait_until(lambda: len(served.server._sessions) == MAX_CONNECTIONS)
        refused = served.connect()
        refused.send(run_frame(1, X))
        call, refusal = error(refused)
        assert (call, refusal.code) == (0, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert str(refusal) == "device cloud: too many connections: close some"
        has_ended(refused)
        for n in (0, MAX_CONNECTIONS - 1):  # those before are served
            ask(peers[n], 1 + n)
        peers[5].close()
        wait_until(lambda: len(served.server._sessions) < MAX_CONNECTIONS)
        ask(served.connect(), 1000)


def test_connections_of_one_device_are_bounded(certs: Path) -> None:
    pi4, laptop = identity_of(certs, "pi4"), identity_of(certs, "laptop")
    part = relay(sources=(pin_of(pi4), pin_of(laptop)))
    with serving(part, identity_of(certs, "cloud")) as served:
        peers = [served.connect(pi4) for _ in range(MAX_CONNECTIONS_PER_PEER)]
        wait_until(lambda: len(served.server._sessions) == MAX_CONNECTIONS_PER_PEER)
        refused = served.connect(pi4)
        call, refusal = error(refused)
        assert call == 0 and str(refusal) == "device cloud: too many connections: close some"
        ask(peers[-1], 1)
        ask(served.connect(laptop), 2)


def test_silent_and_half_open_connections_are_closed_while_others_are_served(
    certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_server, "_HANDSHAKE_S", 1.0)
    pi4 = identity_of(certs, "pi4")
    with serving(relay(sources=(pin_of(pi4),)), identity_of(certs, "cloud")) as served:
        silent = [served.connect() for _ in range(100)]
        for peer in silent[::2]:
            peer.socket.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a greeting
        honest = served.connect(pi4)
        ask(honest, 1)
        for peer in silent:
            has_ended(peer)
        ask(honest, 2)
        ask(served.connect(pi4), 3)


def test_a_flood_of_handshakes_does_not_keep_others_out(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_server, "_HANDSHAKE_S", 3600.0)
    monkeypatch.setattr(data_server, "_MAX_HANDSHAKES", 8)
    pi4 = identity_of(certs, "pi4")
    with serving(relay(sources=(pin_of(pi4),)), identity_of(certs, "cloud")) as served:
        silent = [served.connect() for _ in range(20)]
        for peer in silent[:12]:  # the oldest
            has_ended(peer)
        ask(served.connect(pi4), 1)


def test_connections_without_a_valid_certificate_are_not_served(certs: Path, tmp_path: Path) -> None:
    cloud = identity_of(certs, "cloud")
    with serving(relay(), cloud) as served:
        plain = served.connect()
        plain.send(run_frame(1, X))
        with pytest.raises(Exception, match="bytes that are no frame|the connection has ended"):
            answer(plain)  # an alert of TLS, or nothing
        make_certificates(tmp_path, ("pi4",))
        other = identity_of(tmp_path, "pi4")
        stranger = Identity("pi4", cloud.ca_pem, other.certificate_pem, other.key_pem)
        anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anonymous.load_verify_locations(cadata=cloud.ca_pem.decode())
        for context in (client_context(stranger), anonymous):
            with socket.create_connection(served.address, LIMIT_S) as connected:
                # TLS 1.3: the client learns that it is refused when it reads.
                encrypted = context.wrap_socket(connected, server_hostname="cloud.jmsnas")
                with encrypted, pytest.raises(OSError, match="alert|ALERT|EOF|reset|Broken pipe"):
                    encrypted.sendall(pack_head(run_frame(1, X)) + X)
                    assert encrypted.recv(1) == b"never"
        assert not served.server._sessions and not served.log


@pytest.mark.parametrize("tls", [False, True])
def test_a_frame_of_another_version_is_an_error_that_says_update(certs: Path, tls: bool) -> None:
    pi4 = identity_of(certs, "pi4")
    with serving(relay(), identity_of(certs, "cloud") if tls else None) as served:
        peer = served.connect(pi4 if tls else None)
        content = bytearray(pack_head(run_frame(1, X)) + X)
        content[4] = 9
        peer.socket.sendall(content)
        call, refusal = error(peer)
        fault = "a frame of version 9: expected 1, update jmsnas there or here"
        assert (call, refusal.code, str(refusal)) == (0, grpc.StatusCode.INVALID_ARGUMENT, fault)
        has_ended(peer)
        who = pin_of(pi4)[:12] if tls else "loopback"
        wait_until(lambda: served.log == [f"a connection of {who} was closed: {fault}"])


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        (Frame(Kind.RESULT, 1), "a frame of kind RESULT from a caller"),
        (Frame(Kind.ERROR, 0), "a frame of kind ERROR from a caller"),
        (Frame(Kind.TIMES, 1), "a frame of kind TIMES from a caller"),
        (Frame(Kind.EXCHANGE, 1), "a frame of kind EXCHANGE with 0 tensors"),
        (replace(run_frame(1, X), kind=Kind.CANCEL), "a frame of kind CANCEL with 1 tensors"),
    ],
)
def test_frames_that_no_caller_sends(frame: Frame, fault: str) -> None:
    with serving(relay()) as served:
        peer, honest = served.connect(), served.connect()
        peer.send(run_frame(5, X), frame)
        assert answer(peer).kind in (Kind.RESULT, Kind.ERROR)
        has_ended(peer)
        wait_until(lambda: served.log == [f"a connection of loopback was closed: {fault}"])
        ask(honest, 1)
        assert served.handler.in_flight == 0


def test_a_hostile_peer_does_not_fill_the_log() -> None:
    with serving(relay()) as served:
        for _ in range(5):
            peer = served.connect()
            peer.socket.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
            has_ended(peer)
        wait_until(lambda: not served.server._sessions)
        assert served.log == ["a connection of loopback was closed: bytes that are no frame"]


def test_a_request_of_another_shape_is_skipped_and_the_connection_goes_on() -> None:
    with serving(relay()) as served:
        peer = served.connect()
        large = np.zeros(1 << 20, np.float32).tobytes()
        peer.send(run_frame(1, large), replace(run_frame(2, X), epoch=1), run_frame(3, X))
        call, refusal = error(peer)
        assert (call, refusal.code) == (1, grpc.StatusCode.INVALID_ARGUMENT)
        assert str(refusal) == "device cloud: a tensor whose shape or branch is not the one of this part"
        call, refusal = error(peer)
        assert call == 2 and str(refusal).startswith("device cloud: plan 1 is not served (served: 7)")
        assert (answer(peer).call, served.handler.in_flight) == (3, 0)


def test_a_number_in_use_and_the_number_zero_are_refused() -> None:
    with serving(relay()) as served, served.handler._processor._running:
        peer = served.connect()
        peer.send(run_frame(0, X), run_frame(1, X, b"a"), run_frame(1, X, b"b"))
        for number in (0, 1):
            call, refusal = error(peer)
            assert (call, refusal.code) == (number, grpc.StatusCode.INVALID_ARGUMENT)
            assert str(refusal) == f"device cloud: a call with the number {number}, which is in use"
        assert served.handler.in_flight == 1


def test_too_many_waiting_requests_are_refused_at_once() -> None:
    with serving(relay()) as served:
        peer = served.connect()
        with served.handler._processor._running:
            peer.send(*(run_frame(n, X) for n in range(1, MAX_QUEUED + 4)))
            # While the others wait.
            for number in (MAX_QUEUED + 2, MAX_QUEUED + 3):
                call, refusal = error(peer)
                assert (call, refusal.code) == (number, grpc.StatusCode.RESOURCE_EXHAUSTED)
                assert str(refusal) == "device cloud: the queue is full: send fewer requests, or later"
        assert [answer(peer).call for _ in range(MAX_QUEUED + 1)] == list(range(1, MAX_QUEUED + 2))
        assert served.handler.in_flight == 0


@pytest.mark.parametrize("hang_up", [False, True])
def test_a_cancelled_request_is_not_run(hang_up: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    part, ran = relay(), list[bytes]()

    def run(self: PartRunner, x: np.ndarray) -> np.ndarray:
        ran.append(x.tobytes())
        return x

    monkeypatch.setattr(PartRunner, "__call__", run)
    bodies = [np.full(4, n, np.float32).tobytes() for n in range(4)]
    with serving(part) as served:
        peer, other = served.connect(), served.connect()
        with served.handler._processor._running:
            peer.send(*(run_frame(n, bodies[n]) for n in (1, 2, 3)))
            wait_until(lambda: served.handler.in_flight == 3)
            if hang_up:
                peer.close()
                wait_until(lambda: served.handler.in_flight == 0)
            else:
                # The first waits for the processor already, the others behind it; call 9 is not known.
                peer.send(*(Frame(Kind.CANCEL, n) for n in (9, 1, 3)))
                wait_until(lambda: served.handler.in_flight == 1)
        if not hang_up:
            assert answer(peer).call == 2
        ask(other, 4)
        assert ran == [bodies[2]][: not hang_up] + [X]
        assert served.handler.in_flight == served.handler._processor._waiting == 0


def test_exchanges_return_the_times_of_receipt_and_response() -> None:
    with serving(relay()) as served:
        peer = served.connect()
        for call, size in ((1, 1), (2, 3 << 20)):
            began_ns = time.monotonic_ns()
            tensors = (TensorSpec("f4", (size,)),)
            peer.send(Frame(Kind.EXCHANGE, call, tensors=tensors, body=bytes(4 * size)))
            frame = answer(peer)
            times = msgspec.json.decode(frame.text, type=ExchangeTimes)
            assert (frame.kind, frame.call, frame.tensors) == (Kind.TIMES, call, ())
            # One host, one clock.
            assert began_ns <= times.received <= times.sent <= time.monotonic_ns()


def test_exchanges_are_answered_while_a_request_waits_for_the_processor() -> None:
    with serving(relay()) as served, served.handler._processor._running:
        peer = served.connect()
        peer.send(run_frame(1, X))
        wait_until(lambda: served.handler.in_flight == 1)
        peer.send(Frame(Kind.EXCHANGE, 2, tensors=(TensorSpec("u1", (1,)),), body=b"x"))
        assert answer(peer).kind is Kind.TIMES


def test_a_peer_that_ends_within_a_frame_leaves_nothing() -> None:
    whole = pack_head(run_frame(1, X)) + X
    with serving(relay()) as served:
        for cut in (1, 47, 48, 95, 96, 97, len(whole) - 1):
            peer = served.connect()
            peer.socket.sendall(whole[:cut])
            peer.close()
        ask(served.connect(), 1)
        wait_until(lambda: len(served.server._sessions) == 1)
        assert served.handler.in_flight == served.handler._processor._waiting == 0
        assert not served.log


def test_idle_connections_do_not_slow_others_and_stay_open(certs: Path) -> None:
    names = DEVICES[:4]
    part = relay(sources=tuple(pin_of(identity_of(certs, name)) for name in names))
    with serving(part, identity_of(certs, "cloud")) as served:
        peers = [served.connect(identity_of(certs, name)) for name in names for _ in range(12)]
        wait_until(lambda: len(served.server._sessions) == len(peers))
        for call in range(1, 20):
            ask(peers[-1], call)
        heard = [peer.next() for peer in peers[:-1:6]]
        assert all(frame is not None and frame.kind is Kind.HEARTBEAT for frame in heard)
        for n, peer in enumerate(peers):
            ask(peer, 100 + n)


def test_a_caller_that_is_silent_while_it_waits_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE_S", 0.3)
    with serving(relay(joined=2)) as served:
        silent, idle = served.connect(), served.connect()
        silent.send(run_frame(1, X))  # the branch waits for the other one
        has_ended(silent)
        wait_until(lambda: served.handler.in_flight == 0)
        # One that waits for nothing may be silent for longer.
        idle.send(run_frame(1, X, b"a"), run_frame(2, X, b"a", 1))
        assert {answer(idle).kind for _ in range(2)} == {Kind.RESULT}


def test_a_caller_that_does_not_read_its_responses_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_server, "_STALL_S", 0.3)
    with serving(relay(shape=(1, 1 << 20))) as served:
        body, (peer, other) = bytes(4 << 20), (served.connect(), served.connect())
        wait_until(lambda: len(served.server._sessions) == 2)
        for call in range(1, 5):  # more than the buffers of both sockets take
            peer.send(run_frame(call, body))
        wait_until(lambda: len(served.server._sessions) == 1)
        other.send(run_frame(9, body))
        assert answer(other).kind is Kind.RESULT


def test_the_end_of_a_server_leaves_no_thread(certs: Path) -> None:
    before = set(threading.enumerate())
    pi4 = identity_of(certs, "pi4")
    for identity in (None, identity_of(certs, "cloud")):
        part = relay(joined=2, sources=(pin_of(pi4), "ab" * 32))
        with serving(part, identity) as served:
            caller = pi4 if identity else None
            idle, waiting, half = (served.connect(caller) for _ in range(3))
            waiting.send(run_frame(1, X))
            half.socket.sendall(pack_head(run_frame(1, X)))
            silent = served.connect()
            wait_until(lambda: len(served.server._sessions) >= 3 and served.handler.in_flight == 2)
            served.server.stop()
            for peer in (idle, waiting, half, silent):
                has_ended(peer)
            wait_until(lambda: served.handler.in_flight == 0 and not served.server._sessions)
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(served.address, LIMIT_S)
        wait_until(lambda: set(threading.enumerate()) <= before)


def test_ports(certs: Path) -> None:
    server = DataServer("cloud", handler_of(relay()), lambda: None, Liveness(), lambda text: None)
    port = server.listen("127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        DataServer("cloud", handler_of(relay()), lambda: None, Liveness(), lambda text: None).listen(
            "127.0.0.1", port
        )
    assert server.listen("127.0.0.1", port) == port  # the socket before is closed
    if socket.has_ipv6:
        assert server.listen("[::1]", 0)
    server.stop()
