"""A8: garbage on the port never ends the process, and those with a certificate are still served."""

import contextlib
import random
import socket
from pathlib import Path

from deployments import images, pieces, segments
from prove.own_agents import own_agents, rss_bytes
from prove.proof import Proof

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MORE_BYTES = 128 << 20


def garbage(rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 400))
    if kind == 1:  # a TLS record that lies about its length
        return b"\x16\x03\x01" + rng.randbytes(2) + rng.randbytes(rng.randrange(100))
    if kind == 2:  # HTTP/2 frames without TLS
        frames = (rng.randbytes(3) + bytes([rng.randrange(12)]) + rng.randbytes(5) for _ in range(20))
        return PREFACE + b"".join(frames)
    return b"GET / HTTP/1.1\r\nHost: " + b"a" * rng.randrange(5000) + b"\r\n\r\n"


def test_garbage_on_the_port(tmp_path: Path, proof: Proof) -> None:
    count, rng, (x,) = proof.count(3000, prove=50_000, long=3_000_000), random.Random(8), images(1)
    with own_agents(tmp_path, ("pi4",)) as own:
        own.leader.ship(pieces((6,), ("pi4",)), segments())
        before = own.leader.ask(x)
        host, _, port = own.agents["pi4"].address.address.rpartition(":")
        rss = rss_bytes(own.agents["pi4"].process.pid)
        for _ in range(count):
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5) as connection:
                connection.sendall(garbage(rng))
        more = rss_bytes(own.agents["pi4"].process.pid) - rss
        assert own.agents["pi4"].process.poll() is None
        assert own.leader.ask(x).logits.tobytes() == before.logits.tobytes()
    assert more < MORE_BYTES
    proof.show(f"{count} connections of garbage: it serves on, memory {more / 2**20:+.0f} MB")
