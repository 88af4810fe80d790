"""A6: hundreds of silent or half-open connections hold nothing up, and are closed in seconds."""

import contextlib
import socket
import time
from pathlib import Path

import numpy as np
from deployments import images, pieces, segments
from prove.own_agents import Own, own_agents
from prove.proof import Proof

CLOSED_S = 5.0


def test_silent_connections(tmp_path: Path, proof: Proof) -> None:
    count = proof.count(200, prove=900, long=10_000)
    with own_agents(tmp_path, ("pi4",)) as own:
        own.leader.ship(pieces((6,), ("pi4",)), segments())
        alone_s = _p99(own)
        host, _, port = own.agents["pi4"].address.address.rpartition(":")
        sockets, began = [], time.monotonic()
        for n in range(count):
            connection = socket.create_connection((host, int(port)), 5)
            # Every second one begins a TLS handshake and says no more.
            if n % 2:
                connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
            sockets.append(connection)
        opened_s = time.monotonic() - began
        beside_s = _p99(own)
        for connection in sockets:
            connection.settimeout(max(0.01, began + opened_s + CLOSED_S - time.monotonic()))
            with contextlib.suppress(ConnectionError):
                while connection.recv(100):  # a TLS alert may come first
                    pass
            connection.close()
        closed_s = time.monotonic() - began - opened_s
        assert own.leader.peers["pi4"].healthy(5)
    assert closed_s <= CLOSED_S
    assert beside_s < 3 * alone_s + 0.02
    proof.show(
        f"{count} silent connections: closed after {closed_s:.1f} s, p99 {1e3 * alone_s:.1f} -> "
        f"{1e3 * beside_s:.1f} ms"
    )


def _p99(own: Own) -> float:
    (x,), taken = images(1), []
    for _ in range(100):
        began = time.monotonic()
        own.leader.ask(x)
        taken.append(time.monotonic() - began)
    return float(np.quantile(taken, 0.99))
