"""The sending end of a link against bare servers, whose answers the tests decide."""

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from data_peers import LIMIT_S, RawPeer, bare_server, identity_of, pin_of, wait_until
from msgspec.structs import replace

from jmsnas.deploy.transport import connection, data_link
from jmsnas.deploy.transport.certificates import make_certificates
from jmsnas.deploy.transport.channel import MAX_IN_FLIGHT_PER_CALLER, Identity
from jmsnas.deploy.transport.data_link import Answer, DataLink, Target, _Channel
from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec, pack_head
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.refusal import RequestRefusedError, error_text

MAX_BYTES = 1000
REQUEST = Frame(Kind.RUN, epoch=3, id=b"r" * 16, tensors=(TensorSpec("u1", (4,)),), body=b"body")
Linker = Callable[..., DataLink]


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder, ("pi4", "cloud"))
    return folder


@pytest.fixture
def link_to() -> Iterator[Linker]:
    """A function that makes a link to an address, closed at the end."""
    liveness, links = Liveness(), list[DataLink]()

    def make(address: str, pin: str = "", identity: Identity | None = None) -> DataLink:
        links.append(DataLink(Target("cloud", address, pin), lambda: identity, liveness))
        return links[-1]

    yield make
    for link in links:
        link.close()
    liveness.close()


def answer_to(request: Frame, body: bytes = b"answer") -> Frame:
    tensors = (TensorSpec("u1", (len(body),)),)
    return Frame(Kind.RESULT, request.call, request.epoch, request.id, tensors=tensors, body=body)


def echo(peer: RawPeer) -> None:
    """Answer every request with its own body."""
    while (request := peer.next()) is not None:
        if request.kind is Kind.RUN:
            peer.send(answer_to(request, bytes(request.body or b"")))


def next_request(peer: RawPeer, kind: Kind = Kind.RUN) -> Frame:
    """Wait for the next frame that is no heartbeat."""
    while (frame := peer.next()) is not None and frame.kind is Kind.HEARTBEAT:
        pass
    assert frame is not None and frame.kind is kind
    return frame


def until_the_end(peer: RawPeer) -> None:
    while peer.next() is not None:
        pass


def ask(link: DataLink, timeout_s: float = LIMIT_S, **changes: Any) -> bytes:
    answer = link.wait(replace(REQUEST, **changes), timeout_s, MAX_BYTES)()
    return bytes(answer.body or b"")


def refused(code: grpc.StatusCode, text: str, call: Callable[[], object]) -> None:
    """Check that a call raises one line, with a code."""
    with pytest.raises(RequestRefusedError, match=text) as error:
        call()
    assert error.value.code is code and str(error.value).isprintable()


UNAVAILABLE, DEADLINE = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED


def test_answers_in_any_order_reach_the_thread_that_asked(link_to: Linker) -> None:
    def reverse(peer: RawPeer) -> None:
        while True:
            requests = [next_request(peer) for _ in range(4)]
            assert all(0 < request.left_s <= LIMIT_S for request in requests)
            peer.send(*(answer_to(request, bytes(request.body or b"")) for request in reversed(requests)))

    with bare_server(lambda peer: _quietly(reverse, peer)) as address, ThreadPoolExecutor(4) as pool:
        link = link_to(address)
        bodies = [b"%04d" % n for n in range(40)]
        assert list(pool.map(lambda body: ask(link, body=body), bodies)) == bodies
        link.close()


def _quietly(serve: Callable[[RawPeer], None], peer: RawPeer) -> None:
    with suppress(AssertionError):  # the connection has ended
        serve(peer)


def test_answers_to_unknown_and_answered_calls_are_ignored(link_to: Linker) -> None:
    def serve(peer: RawPeer) -> None:
        first = next_request(peer)
        for call in (first.call - 1, first.call + 1, 0xFFFFFFFF):
            peer.send(answer_to(replace(first, call=call), b"x" * 900))
        peer.send(answer_to(first, b"first"), answer_to(first, b"again"))
        second = next_request(peer)
        peer.send(answer_to(first, b"again"), answer_to(second, b"second"))
        until_the_end(peer)

    with bare_server(serve) as address:
        link = link_to(address)
        assert [ask(link), ask(link)] == [b"first", b"second"]
        link.close()


@pytest.mark.parametrize(
    ("size_bytes", "kept"), [(MAX_BYTES, True), (MAX_BYTES + 1, False), (1 << 20, False)]
)
def test_the_body_of_an_answer_is_bounded(link_to: Linker, size_bytes: int, kept: bool) -> None:
    def serve(peer: RawPeer) -> None:
        peer.send(answer_to(next_request(peer), b"x" * size_bytes))
        peer.send(answer_to(next_request(peer), b"next"))
        until_the_end(peer)

    with bare_server(serve) as address:
        link = link_to(address)
        answer = link.wait(REQUEST, LIMIT_S, MAX_BYTES)()
        assert answer.tensors[0].shape == (size_bytes,)
        assert (answer.body == b"x" * size_bytes) if kept else (answer.body is None)
        assert ask(link) == b"next"
        link.close()


def test_too_many_requests_in_flight(link_to: Linker) -> None:
    go_on = threading.Event()

    def serve(peer: RawPeer) -> None:
        requests = [next_request(peer) for _ in range(MAX_IN_FLIGHT_PER_CALLER)]
        go_on.wait(LIMIT_S)
        peer.send(*map(answer_to, requests))
        echo(peer)

    with bare_server(serve) as address:
        link = link_to(address)
        waits = [link.wait(REQUEST, LIMIT_S, MAX_BYTES) for _ in range(MAX_IN_FLIGHT_PER_CALLER)]
        fault = "^device cloud: too many requests in flight: send fewer, or later$"
        refused(grpc.StatusCode.RESOURCE_EXHAUSTED, fault, lambda: ask(link))
        go_on.set()
        assert all(wait().body == b"answer" for wait in waits)
        assert ask(link) == b"body"
        link.close()


def test_a_deadline_ends_a_wait_and_cancels_the_request(link_to: Linker) -> None:
    cancelled: list[int] = []

    def serve(peer: RawPeer) -> None:
        for _ in range(2):
            late = next_request(peer)
            cancelled.append(next_request(peer, Kind.CANCEL).call - late.call)
            peer.send(answer_to(late))
        echo(peer)

    with bare_server(serve) as address:
        link, done = link_to(address), list[Answer]()
        refused(DEADLINE, "^device cloud: the deadline passed$", lambda: ask(link, 0.05))
        # The same where no thread waits: by a tick.
        link.request(REQUEST, time.monotonic() + 0.05, done.append, MAX_BYTES)
        wait_until(lambda: bool(done))
        assert ask(link) == b"body" and cancelled == [0, 0]
        (error,) = done
        assert isinstance(error, RequestRefusedError) and error.code is DEADLINE
        link.close()


def test_an_answer_after_the_deadline_is_refused(link_to: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Channel, "tick", lambda channel, now_s: None)
    passed = threading.Event()

    def serve(peer: RawPeer) -> None:
        late = next_request(peer)
        passed.wait(LIMIT_S)
        peer.send(answer_to(late))
        until_the_end(peer)

    with bare_server(serve) as address:
        link = link_to(address)
        channel = link.open(time.monotonic() + LIMIT_S)
        wait = link.wait(REQUEST, 0.02, MAX_BYTES)
        time.sleep(0.03)
        passed.set()
        wait_until(lambda: not channel._pending)  # it has arrived before its caller waits
        refused(DEADLINE, "^device cloud: the deadline passed$", wait)
        link.close()


def test_an_answer_that_arrives_at_the_deadline_is_the_only_one(
    link_to: Linker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else the peer, which sends nothing, would be lost at the time of the tick.
    monkeypatch.setattr(connection, "SILENCE_S", math.inf)
    with bare_server(until_the_end) as address:
        link, answers = link_to(address), list[str]()
        channel = link.open(time.monotonic() + LIMIT_S)
        calls: list[int] = []

        def first_done(answer: Answer) -> None:
            answers.append("first")
            # The reading thread takes the second, whose deadline has passed too, while the first is ended.
            second = channel.take(calls[0])
            assert second is not None
            second.done(answer)

        ends_s = time.monotonic() + 3600
        link.request(REQUEST, ends_s, first_done, MAX_BYTES)
        link.request(REQUEST, ends_s, lambda answer: answers.append("second"), MAX_BYTES)
        calls.append(max(channel._pending))
        channel.tick(ends_s + 1)
        assert answers == ["first", "second"]
        link.close()


def test_a_cancelled_request_has_no_answer(link_to: Linker) -> None:
    def serve(peer: RawPeer) -> None:
        first = next_request(peer)
        assert next_request(peer, Kind.CANCEL).call == first.call
        peer.send(answer_to(first))
        echo(peer)

    with bare_server(serve) as address:
        link, done = link_to(address), list[Answer]()
        cancel = link.request(REQUEST, time.monotonic() + LIMIT_S, done.append, MAX_BYTES)
        cancel()
        cancel()
        assert ask(link) == b"body" and not done
        link.close()


def test_time_left_is_counted_from_when_a_request_is_due(link_to: Linker) -> None:
    left_s: list[float] = []

    def serve(peer: RawPeer) -> None:
        request = next_request(peer)
        left_s.append(request.left_s)
        peer.send(answer_to(request))
        until_the_end(peer)

    with bare_server(serve) as address:
        link, done = link_to(address), list[Answer]()
        link.open(time.monotonic() + LIMIT_S)
        now_s = time.monotonic()
        link.request(REQUEST, now_s + 60.0, done.append, MAX_BYTES, now_s + 0.25)
        wait_until(lambda: bool(done))
        assert time.monotonic() >= now_s + 0.25 and left_s == [pytest.approx(59.75, abs=1e-5)]
        link.close()


def test_connections_that_are_refused_are_tried_again_later_and_later(link_to: Linker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    link = link_to(f"127.0.0.1:{port}")
    pauses_s = []
    for _ in range(6):
        refused(UNAVAILABLE, r"^device cloud: UNAVAILABLE \(Connection refused\)$", lambda: ask(link))
        pauses_s.append(link._backoff_s)
        link._retry_s = 0.0
    assert pauses_s == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    # No attempt before its time: the same error at once.
    link._retry_s = time.monotonic() + 3600
    with socket.create_server(("127.0.0.1", port)) as listening:
        refused(UNAVAILABLE, "Connection refused", lambda: ask(link))
        link._retry_s = 0.0
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(ask, link)
            connected, _ = listening.accept()
            peer = RawPeer(connected)
            peer.send(answer_to(next_request(peer), b"back"))
            assert answer.result(LIMIT_S) == b"back"
            assert link._backoff_s == 0.0
            peer.close()


def test_requests_that_come_while_a_connection_opens_share_it(link_to: Linker) -> None:
    connected: list[int] = []

    def serve(peer: RawPeer) -> None:
        connected.append(1)
        echo(peer)

    with bare_server(serve) as address, ThreadPoolExecutor(8) as pool:
        link = link_to(address)
        assert set(pool.map(lambda n: ask(link), range(8))) == {b"body"}
        assert len(connected) == 1
        link.close()


@pytest.mark.parametrize("cut", [1, 47, 48, 96, 97, 101])
def test_a_connection_that_ends_in_the_middle_of_an_answer_is_opened_again(link_to: Linker, cut: int) -> None:
    served: list[int] = []

    def serve(peer: RawPeer) -> None:
        if served:
            echo(peer)
            return
        served.append(1)
        request = next_request(peer)
        peer.socket.sendall((pack_head(answer_to(request)) + b"answer")[:cut])

    with bare_server(serve) as address:
        link = link_to(address)
        refused(UNAVAILABLE, r"^device cloud: UNAVAILABLE \(connection lost\)$", lambda: ask(link))
        assert ask(link) == b"body"  # at once: this is no refused connection
        link.close()


@pytest.mark.parametrize(
    ("send", "code", "text"),
    [
        (
            lambda peer: peer.socket.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" * 2),
            grpc.StatusCode.INTERNAL,
            r"^device cloud: malformed response \(data\): bytes that are no frame$",
        ),
        (
            lambda peer: peer.send(Frame(Kind.ERROR, text=_error("device cloud: too many connections"))),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "^device cloud: too many connections$",
        ),
        (
            lambda peer: peer.send(Frame(Kind.ERROR, text=b'{"code":99,"text":"x"}')),
            grpc.StatusCode.INTERNAL,
            r"^device cloud: malformed response \(data\): an error is not valid",
        ),
        (lambda peer: None, UNAVAILABLE, r"^device cloud: UNAVAILABLE \(connection lost\)$"),
    ],
)
def test_the_end_of_a_connection_is_the_error_of_all_its_requests(
    link_to: Linker, send: Callable[[RawPeer], None], code: grpc.StatusCode, text: str
) -> None:
    def serve(peer: RawPeer) -> None:
        for _ in range(3):
            next_request(peer)
        send(peer)

    with bare_server(serve) as address:
        link = link_to(address)
        waits = [link.wait(REQUEST, LIMIT_S, MAX_BYTES) for _ in range(3)]
        for wait in waits:
            refused(code, text, wait)
        link.close()


def _error(text: str) -> bytes:
    return error_text(RequestRefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, text))


def test_an_error_of_one_request_ends_only_that(link_to: Linker) -> None:
    def serve(peer: RawPeer) -> None:
        first, second = next_request(peer), next_request(peer)
        peer.send(Frame(Kind.ERROR, first.call, text=_error("device cloud: full")), answer_to(second))
        until_the_end(peer)

    with bare_server(serve) as address:
        link = link_to(address)
        first, second = (link.wait(REQUEST, LIMIT_S, MAX_BYTES) for _ in range(2))
        refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "^device cloud: full$", first)
        assert second().body == b"answer"
        link.close()


def test_a_silent_device_is_lost(link_to: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE_S", 0.3)
    with bare_server(until_the_end) as address:  # it sends no heartbeats
        link = link_to(address)
        refused(UNAVAILABLE, "^device cloud: UNAVAILABLE .no sign of life for 0.3 s.$", lambda: ask(link))
        link.close()


def test_a_closed_link(link_to: Linker) -> None:
    with bare_server(until_the_end) as address:
        link = link_to(address)
        wait = link.wait(REQUEST, LIMIT_S, MAX_BYTES)
        link.close()
        refused(UNAVAILABLE, r"^device cloud: UNAVAILABLE \(closed\)$", wait)
        refused(UNAVAILABLE, "the link is closed", lambda: ask(link))


def test_mutual_tls_with_the_pinned_key(link_to: Linker, certs: Path) -> None:
    cloud, pi4 = identity_of(certs, "cloud"), identity_of(certs, "pi4")
    with bare_server(echo, cloud) as address:
        link = link_to(address, pin_of(cloud), pi4)
        assert ask(link, body=b"tls!") == b"tls!"
        link.close()


def test_another_key_than_the_pinned_one_is_refused(link_to: Linker, certs: Path, tmp_path: Path) -> None:
    cloud, pi4 = identity_of(certs, "cloud"), identity_of(certs, "pi4")
    shown = f"{pin_of(cloud)[:12]}, expected {'ab' * 6}"
    with bare_server(until_the_end, cloud) as address:
        link = link_to(address, "ab" * 32, pi4)
        fault = rf"^device cloud: UNAVAILABLE \(its key is {shown}: check devices.toml\)$"
        refused(UNAVAILABLE, fault, lambda: ask(link))
    # A device of the same CA at the address of another one.
    with bare_server(until_the_end, pi4) as address:
        link = link_to(address, pin_of(pi4), pi4)
        refused(UNAVAILABLE, "^device cloud: UNAVAILABLE .Hostname mismatch, certificate", lambda: ask(link))
    make_certificates(tmp_path, ("cloud",))
    stranger = identity_of(tmp_path, "cloud")
    with bare_server(until_the_end, stranger) as address:
        link = link_to(address, pin_of(stranger), pi4)
        refused(UNAVAILABLE, "^device cloud: UNAVAILABLE .*(self-signed|issuer) cert", lambda: ask(link))


def test_a_certificate_of_another_ca_is_refused_by_the_server(
    link_to: Linker, certs: Path, tmp_path: Path
) -> None:
    make_certificates(tmp_path, ("pi4",))
    cloud, own, other = (
        identity_of(certs, "cloud"),
        identity_of(certs, "pi4"),
        identity_of(tmp_path, "pi4"),
    )
    # It trusts the CA of the server, which does not know that of its certificate.
    stranger = Identity("pi4", own.ca_pem, other.certificate_pem, other.key_pem)
    with bare_server(until_the_end, cloud) as address:
        link = link_to(address, pin_of(cloud), stranger)
        refused(UNAVAILABLE, "^device cloud: UNAVAILABLE", lambda: ask(link))


def test_a_plain_link_to_a_server_with_tls(link_to: Linker, certs: Path) -> None:
    with bare_server(until_the_end, identity_of(certs, "cloud")) as address:
        link = link_to(address)
        refused(UNAVAILABLE, "^device cloud: UNAVAILABLE .connection lost.$", lambda: ask(link))


@pytest.mark.parametrize("answer", [b"JMSN", b""])
def test_a_link_with_tls_to_a_plain_server(link_to: Linker, certs: Path, answer: bytes) -> None:
    # The server reads the greeting, and answers with bytes of its own, or ends the connection.
    with bare_server(lambda peer: _greet(peer, answer)) as address:
        link = link_to(address, pin_of(identity_of(certs, "cloud")), identity_of(certs, "pi4"))
        refused(UNAVAILABLE, "^device cloud: UNAVAILABLE .*[A-Za-z]", lambda: ask(link))


def _greet(peer: RawPeer, text: bytes) -> None:
    peer.socket.recv(100)
    peer.socket.sendall(text)


def test_a_server_that_never_ends_the_handshake(
    link_to: Linker, certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jmsnas.deploy.transport.tls.HANDSHAKE_S", 0.2)
    cloud, pi4 = identity_of(certs, "cloud"), identity_of(certs, "pi4")
    ended = threading.Event()
    with bare_server(lambda peer: _wait(ended)) as address:
        link = link_to(address, pin_of(cloud), pi4)
        refused(UNAVAILABLE, r"^device cloud: UNAVAILABLE \(.*timed out", lambda: ask(link))
        ended.set()


def test_a_deadline_passes_while_a_connection_opens(link_to: Linker, certs: Path) -> None:
    cloud, pi4 = identity_of(certs, "cloud"), identity_of(certs, "pi4")
    ended = threading.Event()
    with bare_server(lambda peer: _wait(ended)) as address:
        link = link_to(address, pin_of(cloud), pi4)
        refused(DEADLINE, "^device cloud: the deadline passed$", lambda: ask(link, 0.05))
        ended.set()


def _wait(ended: threading.Event) -> None:
    ended.wait(LIMIT_S)


def test_a_renewed_certificate_is_used_for_a_new_connection(certs: Path, tmp_path: Path) -> None:
    make_certificates(tmp_path, ("pi4", "cloud"))
    cloud, current = identity_of(tmp_path, "cloud"), [identity_of(tmp_path, "pi4")]
    first_asked, answer_first = threading.Event(), threading.Event()
    ended: list[str] = []

    def serve(peer: RawPeer) -> None:
        if not first_asked.is_set():
            request = next_request(peer)
            first_asked.set()
            answer_first.wait(LIMIT_S)
            peer.send(answer_to(request, b"by the first"))
            until_the_end(peer)
            ended.append("first")
        else:
            echo(peer)

    liveness = Liveness()
    with bare_server(serve, cloud) as address:
        link = DataLink(Target("cloud", address, pin_of(cloud)), lambda: current[0], liveness)
        wait = link.wait(REQUEST, LIMIT_S, MAX_BYTES)
        assert first_asked.wait(LIMIT_S)
        first = link._channel
        make_certificates(tmp_path, ("pi4",))
        renewed = identity_of(tmp_path, "pi4")
        assert renewed != current[0] and pin_of(renewed) == pin_of(current[0])
        current[0] = renewed
        assert first is not None
        wait_until(lambda: not first.usable)
        assert ask(link) == b"body" and link._channel is not first
        # The request in flight on the old connection is answered before that is closed.
        first.tick(time.monotonic())
        assert not ended and not first.connection.reason
        answer_first.set()
        assert wait().body == b"by the first"
        wait_until(lambda: ended == ["first"])
        assert ask(link) == b"body"
        link.close()
    liveness.close()


def test_an_old_connection_is_replaced(link_to: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[int] = []

    def serve(peer: RawPeer) -> None:
        connected.append(1)
        echo(peer)

    with bare_server(serve) as address:
        link = link_to(address)
        assert ask(link) == ask(link) == b"body" and len(connected) == 1
        monkeypatch.setattr(data_link, "_MAX_AGE_S", -1.0)
        channel = link._channel
        wait_until(lambda: channel is not None and not channel.usable)
        assert ask(link) == b"body" and len(connected) == 2
        link.close()


def test_close_ends_a_replaced_connection_with_a_request_in_flight(
    link_to: Linker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def serve(peer: RawPeer) -> None:
        if asked.is_set():
            echo(peer)
            return
        next_request(peer)
        asked.set()
        until_the_end(peer)

    with bare_server(serve) as address:
        link = link_to(address)
        wait = link.wait(REQUEST, LIMIT_S, MAX_BYTES)
        assert asked.wait(LIMIT_S)
        monkeypatch.setattr(data_link, "_MAX_AGE_S", -1.0)
        channel = link._channel
        wait_until(lambda: channel is not None and not channel.usable)
        assert ask(link) == b"body"
        link.close()
        with pytest.raises(RequestRefusedError, match=r"UNAVAILABLE \(closed\)"):
            wait()
