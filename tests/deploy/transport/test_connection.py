"""Connections over pairs of sockets, plain and with mutual TLS, read and written by several threads."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from data_peers import LIMIT_S, RawPeer, identity_of, tcp_pair, tls_pair, wait_until

from jmsnas.deploy.transport import connection
from jmsnas.deploy.transport.certificates import make_certificates
from jmsnas.deploy.transport.connection import Connection, ConnectionLostError
from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec, pack_head
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.refusal import RequestRefusedError, parse_error
from jmsnas.errors import FrameError

MIB = 1 << 20
Sockets = Callable[[], tuple[socket.socket, socket.socket]]


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder, ("pi4", "cloud"))
    return folder


@pytest.fixture(params=["plain", "unix", "tls"])
def sockets(request: pytest.FixtureRequest, certs: Path) -> Sockets:
    """A function that connects two sockets: TCP, those of socketpair, TCP with mutual TLS."""
    if request.param == "tls":
        return lambda: tls_pair(identity_of(certs, "pi4"), identity_of(certs, "cloud"))
    return tcp_pair if request.param == "plain" else socket.socketpair


@contextmanager
def joined(pair: tuple[socket.socket, socket.socket], stall_s: float = 1e9) -> Iterator[list[Connection]]:
    """Give the connections of two sockets."""
    ends = [Connection(one, "", lambda frame: True, lambda: True, stall_s) for one in pair]
    try:
        yield ends
    finally:
        for end in ends:
            end.release()


def request(call: int, size_bytes: int) -> Frame:
    """Build a frame whose bytes depend on the number of the call."""
    body = bytes([call % 251]) * size_bytes
    return Frame(Kind.RUN, call, 3, bytes(16), 1.0, 0, (TensorSpec("u1", (size_bytes,)),), b"{}", body)


def is_whole(frame: Frame) -> bool:
    """Whether a frame is one of `request`, with all its bytes."""
    return frame.body == request(frame.call, frame.tensors[0].shape[0]).body


def received(end: Connection, count: int) -> list[Frame]:
    found = [end.receive() for _ in range(count)]
    return [frame for frame in found if frame is not None]


def in_threads(*calls: Callable[[], object]) -> None:
    """Call functions at once, each in a thread; an error of one is raised."""
    errors: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
        assert not thread.is_alive(), "a thread is blocked"
    if errors:
        raise errors[0]


def test_frames_arrive_whole_both_ways_at_once_from_several_threads(sockets: Sockets) -> None:
    sizes = [1, 100, MIB, 16 << 10, 8 * MIB, 40_000]
    found: dict[int, list[Frame]] = {}

    def send(end: Connection, first: int) -> None:
        for n, size in enumerate(sizes):
            end.send(request(first + n, size))

    def read(name: int, end: Connection) -> None:
        found[name] = received(end, 2 * len(sizes))

    with joined(sockets()) as (a, b):
        in_threads(
            *(lambda end=end, first=first: send(end, first) for end in (a, b) for first in (100, 200)),
            lambda: read(0, a),
            lambda: read(1, b),
        )
        assert a.receive(wait=False) is None and b.receive(wait=False) is None
    for frames in found.values():
        assert all(map(is_whole, frames))
        # In the order in which each thread has sent them.
        for first in (100, 200):
            calls = [frame.call for frame in frames if 0 <= frame.call - first < 100]
            assert calls == [first + n for n in range(len(sizes))]


def test_a_sender_does_not_wait_for_a_peer_that_does_not_read(sockets: Sockets) -> None:
    with joined(sockets()) as (a, b):
        for call in range(1, 4):
            a.send(request(call, 8 * MIB))  # more than the buffers of any socket
        assert a._queue and not a.reason
        frames = received(b, 3)
        assert [frame.call for frame in frames] == [1, 2, 3] and all(map(is_whole, frames))


def test_two_sides_that_send_before_they_read_do_not_wait_for_each_other(sockets: Sockets) -> None:
    with joined(sockets()) as (a, b):

        def send_then_read(end: Connection) -> None:
            for call in (1, 2):
                end.send(request(call, 8 * MIB))
            assert all(map(is_whole, received(end, 2)))

        in_threads(lambda: send_then_read(a), lambda: send_then_read(b))


def test_a_peer_that_stops_reading_is_disconnected(sockets: Sockets) -> None:
    with joined(sockets(), stall_s=0.2) as (a, b):
        a.send(request(1, 8 * MIB))
        a.tick(time.monotonic())
        assert not a.reason  # it has had no time yet
        wait_until(lambda: bool(a.tick(time.monotonic()) or a.reason))
        assert a.reason == "the peer has read nothing for 0.2 s"
        with pytest.raises(ConnectionLostError, match="^the peer has read nothing for 0.2 s$"):
            a.send(request(2, 1))
        with pytest.raises(ConnectionLostError, match="^the peer has read nothing for 0.2 s$"):
            a.receive()
        with pytest.raises(ConnectionLostError, match="^connection lost$"):
            received(b, 2)


def test_a_slow_reader_is_not_disconnected(sockets: Sockets) -> None:
    with joined(sockets(), stall_s=10.0) as (a, b):
        for call in (1, 2):
            a.send(request(call, 8 * MIB))
        written_s, count = a._written_s, 0
        b._socket.settimeout(LIMIT_S)
        # The time counts from the last byte that the peer took, not from the first.
        while a._written_s == written_s and count < 16 * MIB:  # one call may send much while it is read
            count += len(b._socket.recv(64 << 10))
        wait_until(lambda: a._written_s != written_s)
        a.tick(a._written_s + 9.9)
        assert not a.reason


def test_bytes_that_wait_for_a_link_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_MAX_QUEUED_BYTES", 4 * MIB)
    with joined(socket.socketpair()) as (a, b):
        a.send(request(1, 8 * MIB))
        with pytest.raises(RequestRefusedError, match="too many bytes wait for a link: send fewer") as full:
            a.send(request(2, 1))
        assert full.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert is_whole(received(b, 1)[0])
        wait_until(lambda: not a._queue)
        a.send(request(3, 1))
        assert received(b, 1)[0].call == 3


def test_frames_are_sent_when_they_are_due_in_the_order_of_the_calls(sockets: Sockets) -> None:
    with joined(sockets()) as (a, b):
        now_s = time.monotonic()
        a.send(request(1, 1))
        a.send(request(2, 40_000), now_s + 0.3)
        a.send(request(3, 1))
        a.send(request(4, 1), now_s + 0.2)
        a.send(request(5, 1), now_s + 0.4)
        at_s = {}
        for frame in (received(b, 1)[0] for _ in range(5)):
            assert is_whole(frame)
            at_s[frame.call] = time.monotonic() - now_s
        assert list(at_s) == [1, 2, 3, 4, 5]
        assert at_s[2] >= 0.3 and at_s[3] >= 0.3 and at_s[5] >= 0.4


def test_heartbeats_go_ahead_of_a_frame_that_is_not_due(sockets: Sockets) -> None:
    with joined(sockets()) as (a, b):
        a.send(request(1, 40_000), time.monotonic() + 3600)
        for _ in range(2):
            a.tick(a._sent_s + 1.1 * connection.HEARTBEAT_S)
            frame = RawPeer(b._socket).next()
            assert frame is not None and frame.kind is Kind.HEARTBEAT


@pytest.mark.parametrize("wait", [True, False])
def test_a_malformed_frame_is_an_error_line_on_both_sides(
    sockets: Sockets, wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_LINGER_S", LIMIT_S)
    content = bytearray(pack_head(request(7, 3)))
    content[4] = 9
    fault = "a frame of version 9: expected 1, update jmsnas there or here"
    with joined(sockets()) as (a, b):
        b.send(request(1, 5))  # whole frames before it are received
        errors: list[FrameError] = []

        def read() -> None:
            assert is_whole(received(a, 1)[0])
            with pytest.raises(FrameError, match=f"^{fault}$") as refused:
                while a.receive(wait) is None:
                    time.sleep(0.001)
            errors.append(refused.value)
            a.release()

        def send() -> None:
            with b._lock:
                # Unread bytes behind the fault must not cost the peer the error.
                b._socket.send(bytes(content) + bytes(10_000))
            (answer,) = received(b, 1)
            assert (answer.kind, answer.call) == (Kind.ERROR, 0)
            error = parse_error(answer.text)
            assert (error.code, str(error)) == (grpc.StatusCode.INVALID_ARGUMENT, fault)
            with pytest.raises(ConnectionLostError, match="^connection lost$"):
                b.receive()
            b.release()

        in_threads(read, send)
        assert errors and a.reason == fault
        with pytest.raises(ConnectionLostError, match=f"^{fault}$"):
            a.send(request(2, 1))


@pytest.mark.parametrize("cut", [0, 1, 47, 48, 60, 96, 97, 98, 200])
def test_a_connection_that_ends_in_the_middle_of_a_frame(sockets: Sockets, cut: int) -> None:
    whole = pack_head(request(1, 1000)) + bytes(request(1, 1000).body or b"")
    ours, theirs = sockets()
    with joined((ours, theirs)) as (a, b):
        with b._lock:
            theirs.sendall(whole[:cut])
        b.release()
        with pytest.raises(ConnectionLostError, match="^connection lost$"):
            a.receive()
        assert a.reason == "connection lost"
        with pytest.raises(ConnectionLostError, match="^connection lost$"):
            a.send(request(1, 1))


def test_a_reset_is_a_lost_connection() -> None:
    ours, theirs = tcp_pair()
    with joined((ours, theirs)) as (a, b):
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        with pytest.raises(ConnectionLostError, match="^connection lost$"):
            a.receive()
        assert b.reason == ""


def test_a_close_wakes_the_thread_that_reads(sockets: Sockets) -> None:
    with joined(sockets()) as (a, b):
        waiting = threading.Event()

        def read() -> None:
            waiting.set()
            with pytest.raises(ConnectionLostError, match="^the agent has ended$"):
                a.receive()
            a.release()

        def close() -> None:
            wait_until(lambda: waiting.is_set() and a._waits_since_s > 0)
            a.close("the agent has ended")
            a.close("another reason")

        in_threads(read, close)
        assert a.reason == "the agent has ended"
        with pytest.raises(ConnectionLostError, match="^connection lost$"):
            b.receive()


def test_threads_of_a_connection_end_with_it(sockets: Sockets) -> None:
    before = set(threading.enumerate())
    with joined(sockets()) as (a, b):
        a.send(request(1, 8 * MIB))  # the rest is left to a thread
        b.send(request(1, 1), time.monotonic() + 3600)
        wait_until(lambda: len(set(threading.enumerate()) - before) == 2)
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_heartbeats_are_sent_while_nothing_else_is(sockets: Sockets) -> None:
    with joined(sockets()) as (a, b):
        began_s = a._sent_s
        a.tick(began_s + 0.9 * connection.HEARTBEAT_S)
        assert b.receive(wait=False) is None and not b._poll_in.poll(0)
        a.tick(began_s + 1.1 * connection.HEARTBEAT_S)
        raw = RawPeer(b._socket)
        frame = raw.next()
        assert frame is not None and frame.kind is Kind.HEARTBEAT
        # Not while a frame is on its way, which is a sign of life too.
        a.send(request(1, 8 * MIB))
        queued = len(a._queue)
        a.tick(time.monotonic() + 10 * connection.HEARTBEAT_S)
        assert len(a._queue) <= queued


@pytest.mark.parametrize(("expecting", "silence_s"), [(True, 2.5), (False, 30.0)])
def test_silence_ends_a_connection(sockets: Sockets, expecting: bool, silence_s: float) -> None:
    assert (connection.SILENCE_S, connection.IDLE_SILENCE_S) == (2.5, 30.0)
    ours, theirs = sockets()
    a = Connection(ours, "", lambda frame: True, lambda: expecting)
    with joined((theirs,)) as (b,):  # type: ignore[arg-type]
        # Time passes only by the argument of `tick`.
        a.tick(time.monotonic() + 3600)
        assert not a.reason  # a thread that does not read does not judge silence

        def read() -> None:
            with pytest.raises(ConnectionLostError, match=f"^no sign of life for {silence_s:g} s$"):
                a.receive()
            a.release()

        def tick() -> None:
            wait_until(lambda: a._waits_since_s > 0)
            waits_since_s = a._waits_since_s
            a.tick(waits_since_s + 0.99 * silence_s)
            assert not a.reason
            b.tick(time.monotonic() + 2 * connection.HEARTBEAT_S)  # its heartbeat
            wait_until(lambda: a._heard_s > waits_since_s and a._waits_since_s > 0)
            a.tick(a._heard_s + 0.99 * silence_s)
            assert not a.reason
            a.tick(max(a._heard_s, a._waits_since_s) + 1.01 * silence_s)

        in_threads(read, tick)


def test_a_living_peer_without_requests_stays_connected(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    liveness = Liveness()
    with joined(sockets()) as (a, b):
        for end in (a, b):
            liveness.watch(end.tick)
        found: list[Frame] = []

        def read(end: Connection) -> None:
            found.extend(received(end, 1))

        def last() -> None:
            # By then several heartbeats went both ways: those are not returned as frames.
            sent_s = a._sent_s, b._sent_s
            wait_until(lambda: min(a._sent_s - sent_s[0], b._sent_s - sent_s[1]) > connection.HEARTBEAT_S)
            a.send(request(1, 1))
            b.send(request(2, 1))

        in_threads(lambda: read(a), lambda: read(b), last)
        assert {frame.call for frame in found} == {1, 2}
        for end in (a, b):
            liveness.forget(end.tick)
    liveness.close()
