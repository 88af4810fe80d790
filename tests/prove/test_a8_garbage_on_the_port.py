"""A8: garbage on the port does not end the process, and clients with a certificate are still served."""

import contextlib
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deployments import images, pieces, segments
from prove.own_agents import own_agents, rss_bytes
from prove.proof import LEVEL, Proof
from prove.rapid_reset import rapid_reset

from jmsnas.deploy.transport.certificates import make_certificates
from jmsnas.errors import DeployError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MORE_BYTES, MORE_LOG = 128 << 20, 10_000  # most growth of memory and log that unauthenticated peers may cause


def garbage(rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 400))
    if kind == 1:  # a TLS record with a false length
        return b"\x16\x03\x01" + rng.randbytes(2) + rng.randbytes(rng.randrange(100))
    if kind == 2:  # HTTP/2 frames without TLS
        frames = (rng.randbytes(3) + bytes([rng.randrange(12)]) + rng.randbytes(5) for _ in range(20))
        return PREFACE + b"".join(frames)
    return b"GET / HTTP/1.1\r\nHost: " + b"a" * rng.randrange(5000) + b"\r\n\r\n"


def test_garbage_on_the_port(tmp_path: Path, proof: Proof, capfd: pytest.CaptureFixture[str]) -> None:
    count, rng, (x,) = proof.count(3000, prove=50_000, long=3_000_000), random.Random(8), images(1)
    with own_agents(tmp_path, ("pi4",)) as own:
        own.leader.ship(pieces((6,), ("pi4",)), segments())
        before = own.leader.infer(x)
        host, _, port = own.agents["pi4"].address.address.rpartition(":")
        rss = rss_bytes(own.agents["pi4"].process.pid)
        for _ in range(count):
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5) as connection:
                connection.sendall(garbage(rng))
        more = rss_bytes(own.agents["pi4"].process.pid) - rss
        assert own.agents["pi4"].process.poll() is None
        assert own.leader.infer(x).logits.tobytes() == before.logits.tobytes()
    assert more < MORE_BYTES and len(capfd.readouterr().err) < MORE_LOG
    proof.show(f"{count} connections of garbage: the agent keeps serving, memory {more / 2**20:+.0f} MB")


def test_streams_opened_and_reset_at_once(tmp_path: Path, proof: Proof) -> None:
    seconds, per_s, (x,) = proof.count(1, prove=5, long=600), 1000, images(1)
    with own_agents(tmp_path, ("pi4",)) as own:
        own.leader.ship(pieces((6,), ("pi4",)), segments())
        before = own.leader.infer(x)
        make_certificates(
            tmp_path / "certs", ("other",)
        )  # another device of ours, as resets need a valid certificate
        agent, answers, refused = own.agents["pi4"], 0, 0
        rss = rss_bytes(agent.process.pid)
        with ThreadPoolExecutor(1) as pool:
            resets = pool.submit(
                rapid_reset, agent.address.address, tmp_path / "certs" / "other", per_s, seconds
            )
            while not resets.done():
                try:
                    assert own.leader.infer(x).logits.tobytes() == before.logits.tobytes()
                    answers += 1
                except DeployError as error:  # a flood from a device of ours may fill the queue: SECURITY.md
                    assert "RESOURCE_EXHAUSTED" in str(error)
                    refused += 1
        more = rss_bytes(agent.process.pid) - rss
        assert agent.process.poll() is None
        assert own.leader.infer(x).logits.tobytes() == before.logits.tobytes()
    assert answers and resets.result() and more < MORE_BYTES
    if LEVEL:
        assert resets.result() >= per_s * seconds / 2, "too few resets to count"
    proof.show(
        f"{resets.result()} streams opened and reset in {seconds} s: {answers} requests beside answered, "
        f"{refused} refused at once, memory {more / 2**20:+.0f} MB; the next is answered"
    )
