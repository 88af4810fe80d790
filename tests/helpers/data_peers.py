"""Ends of connections of the data plane for the tests: pairs of connected sockets, and bare servers."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jmsnas.deploy.transport.channel import Identity
from jmsnas.deploy.transport.frame import Frame, FrameReader, pack_head
from jmsnas.deploy.transport.identity import fingerprint, read_identity
from jmsnas.deploy.transport.tls import client_context, server_context

LIMIT_S = 60.0


def wait_until(condition: Callable[[], bool], seconds: float = LIMIT_S) -> None:
    ends_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_s, "the condition did not become true"
        time.sleep(0.005)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Connect two TCP sockets on loopback; the first is the connecting one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname(), LIMIT_S)
        server, _ = listening.accept()
    server.settimeout(LIMIT_S)
    return client, server


def tls_pair(client: Identity, server: Identity) -> tuple[socket.socket, socket.socket]:
    """Connect two TCP sockets on loopback with mutual TLS."""
    connecting, accepted = tcp_pair()
    ends: list[socket.socket] = []

    def accept() -> None:
        ends.append(server_context(server).wrap_socket(accepted, server_side=True))

    thread = threading.Thread(target=accept)
    thread.start()
    name = f"{server.name}.jmsnas"
    encrypted = client_context(client).wrap_socket(connecting, server_hostname=name)
    thread.join(LIMIT_S)
    return encrypted, ends[0]


def pin_of(identity: Identity) -> str:
    return fingerprint(identity.certificate_pem)


def identity_of(certs: Path, name: str) -> Identity:
    return read_identity(certs / name)


class RawPeer:
    """The other end of a connection, whose bytes a test decides."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(LIMIT_S)
        self.socket, self._reader = connected, FrameReader()

    def send(self, *frames: Frame) -> None:
        self.socket.sendall(b"".join(pack_head(frame) + bytes(frame.body or b"") for frame in frames))

    def next(self) -> Frame | None:
        """Wait for the next frame; None at the end of the connection."""
        while (frame := self._reader.next()) is None:
            target = self._reader.target()
            try:
                count = self.socket.recv_into(target)
            except ConnectionError:
                return None
            if not count:
                return None
            self._reader.advance(count)
        return frame

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@contextmanager
def bare_server(serve: Callable[[RawPeer], None], identity: Identity | None = None) -> Iterator[str]:
    """Listen, and call `serve` with each connection, in a thread; gives HOST:PORT."""
    listening = socket.create_server(("127.0.0.1", 0))
    threads, ended = list[threading.Thread](), threading.Event()

    def handle(connected: socket.socket) -> None:
        with suppress(OSError), connected:
            connected.settimeout(LIMIT_S)
            if identity is not None:
                connected = server_context(identity).wrap_socket(connected, server_side=True)
            with connected:
                serve(RawPeer(connected))

    def accept() -> None:
        with suppress(OSError):
            while not ended.is_set():
                connected, _ = listening.accept()
                threads.append(threading.Thread(target=handle, args=(connected,), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        ended.set()
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for thread in (accepting, *threads):
            thread.join(LIMIT_S)
