"""A6: hundreds of silent or half-open connections delay no request, and are closed within seconds."""

import selectors
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from deployments import images, pieces, segments
from msgspec.structs import replace
from prove.own_agents import own_agents
from prove.proof import Proof

from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec, pack_head
from jmsnas.deploy.transport.identity import read_identity
from jmsnas.deploy.transport.tls import connect

# Configured: the time within which a connection must have finished its TLS handshake.
HANDSHAKE_S = 3.0


def test_silent_connections(tmp_path: Path, proof: Proof) -> None:
    count, (x,) = proof.count(200, prove=900, long=10_000), images(1)
    with own_agents(tmp_path, ("pi4",)) as own:
        own.leader.ship(pieces((6,), ("pi4",)), segments())
        alone_s = float(np.quantile(own.request_times(x, 1000), 0.99))
        address = own.agents["pi4"].address
        host, _, control = address.address.rpartition(":")
        ports = int(control), int(address.data_address.rpartition(":")[2])
        sockets = []
        for n in range(count):  # on both ports in turn
            connection = socket.create_connection((host, ports[n // 2 % 2]), 5)
            # Every second one starts a TLS handshake and sends nothing more.
            if n % 2:
                connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
            sockets.append(connection)
        opened = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            closing = pool.submit(_all_closed, sockets)  # concurrently with the requests
            beside_s = float(np.quantile(own.request_times(x, 1000), 0.99))
            closed_s = closing.result() - opened
        assert own.leader.clients["pi4"].healthy(60)
    closed = proof.within("closed within", closed_s, 1.0, HANDSHAKE_S, "the time-out of handshakes")
    p99 = proof.within("p99 of requests", beside_s, 3, alone_s, "that without them")
    proof.show(f"{count} silent connections: {closed}, {p99}")


def test_requests_whose_body_never_ends(tmp_path: Path, proof: Proof) -> None:
    """Half-sent requests of a device take no place in the queue, and end as it is silent."""
    (x,) = images(1)
    with own_agents(tmp_path, ("pi4",)) as own:
        own.leader.ship(pieces((6,), ("pi4",)), segments())
        address, identity = own.agents["pi4"].address, read_identity(tmp_path / "certs" / "leader")
        own.leader.infer(x)
        sockets = []
        for n in range(1, 13):  # more than may wait for the processor
            frame = Frame(Kind.RUN, n, own.leader.epoch, bytes([n] * 16), 60.0, body=x.tobytes())
            frame = replace(frame, tensors=(TensorSpec("f4", x.shape),))
            connection = connect(address.data_address, "pi4", address.fingerprint, identity)
            connection.sendall(pack_head(frame) + x.tobytes()[:100])
            sockets.append(connection)
        for _ in range(20):
            own.leader.infer(x)
        opened = time.monotonic()
        closed_s = _all_closed(sockets) - opened
    closed = proof.within("closed within", closed_s, 1.6, 2.5, "the longest silence of a caller")
    proof.show(f"{len(sockets)} half-sent requests: others are served, {closed}")


def _all_closed(sockets: list[socket.socket]) -> float:
    """Wait until the other side has closed them all, and return the time."""
    with selectors.DefaultSelector() as selector:
        for connection in sockets:
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(1.0):
                try:
                    over = not key.fileobj.recv(1000)  # type: ignore[union-attr]
                except ssl.SSLWantReadError:
                    over = False
                except ConnectionError:
                    over = True
                if over:  # otherwise a TLS alert, which comes first
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
    return time.monotonic()
