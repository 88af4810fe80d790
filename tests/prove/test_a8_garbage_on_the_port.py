"""A8: garbage on the ports does not end the process, and clients with a certificate are still served."""

import contextlib
import random
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deployments import images, pieces, segments
from msgspec.structs import replace
from prove.own_agents import Own, own_agents, rss_bytes
from prove.proof import LEVEL, Proof
from prove.rapid_reset import rapid_reset

from jmsnas.deploy.transport.certificates import make_certificates
from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec, pack_head
from jmsnas.errors import DeployError

PER_S = 1000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MORE_BYTES, MORE_LOG = 128 << 20, 10_000  # most growth of memory and log that unauthenticated peers may cause


def garbage(rng: random.Random) -> bytes:
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 400))
    if kind == 1:  # a TLS record with a false length
        return b"\x16\x03\x01" + rng.randbytes(2) + rng.randbytes(rng.randrange(100))
    if kind == 2:  # HTTP/2 frames without TLS
        frames = (rng.randbytes(3) + bytes([rng.randrange(12)]) + rng.randbytes(5) for _ in range(20))
        return PREFACE + b"".join(frames)
    if kind == 3:  # frames of the data plane without TLS
        return bytes(pack_head(Frame(Kind.RUN, 1))) * 3 + rng.randbytes(rng.randrange(100))
    return b"GET / HTTP/1.1\r\nHost: " + b"a" * rng.randrange(5000) + b"\r\n\r\n"


def test_garbage_on_the_port(tmp_path: Path, proof: Proof, capfd: pytest.CaptureFixture[str]) -> None:
    count, rng, (x,) = proof.count(3000, prove=50_000, long=3_000_000), random.Random(8), images(1)
    with own_agents(tmp_path, ("pi4",)) as own:
        own.leader.ship(pieces((6,), ("pi4",)), segments())
        before = own.leader.infer(x)
        address = own.agents["pi4"].address
        host, _, control = address.address.rpartition(":")
        ports = int(control), int(address.data_address.rpartition(":")[2])
        rss = rss_bytes(own.agents["pi4"].process.pid)
        for n in range(count):  # on both ports in turn
            with (
                contextlib.suppress(OSError),
                socket.create_connection((host, ports[n % 2]), 5) as connection,
            ):
                connection.sendall(garbage(rng))
        more = rss_bytes(own.agents["pi4"].process.pid) - rss
        assert own.agents["pi4"].process.poll() is None
        assert own.leader.infer(x).logits.tobytes() == before.logits.tobytes()
    assert more < MORE_BYTES and len(capfd.readouterr().err) < MORE_LOG
    proof.show(f"{count} connections of garbage: the agent keeps serving, memory {more / 2**20:+.0f} MB")


def test_streams_opened_and_reset_at_once(tmp_path: Path, proof: Proof) -> None:
    with one_agent(tmp_path) as own:
        # Another device of ours, as resets need a valid certificate.
        make_certificates(tmp_path / "certs", ("other",))
        address, other = own.agents["pi4"].address.address, tmp_path / "certs" / "other"
        flood(
            proof,
            own,
            "streams opened and reset",
            lambda seconds: rapid_reset(address, other, PER_S, seconds),
        )


def test_requests_sent_and_cancelled_at_once(tmp_path: Path, proof: Proof) -> None:
    (x,) = images(1)
    with one_agent(tmp_path) as own:
        flooding = own.new_leader()
        frame = Frame(
            Kind.RUN, epoch=own.leader.epoch, tensors=(TensorSpec("f4", x.shape),), body=x.tobytes()
        )

        def cancelled(seconds: int) -> int:
            """Send requests on a connection of their own, and cancel each."""
            began, done, link = time.monotonic(), 0, flooding.clients["pi4"]._link
            while (spent_s := time.monotonic() - began) < seconds:
                for _ in range(min(50, int(PER_S * spent_s) - done)):
                    named = replace(frame, id=secrets.token_bytes(16))
                    link.request(named, time.monotonic() + 60, lambda answer: None, 1 << 20)()
                    done += 1
                time.sleep(0.001)
            flooding.clients["pi4"].clock(1)  # frames are read in turn: all have been
            return done

        flood(proof, own, "requests sent and cancelled", cancelled)


@contextlib.contextmanager
def one_agent(folder: Path) -> Iterator[Own]:
    with own_agents(folder, ("pi4",)) as own:
        own.leader.ship(pieces((6,), ("pi4",)), segments())
        yield own


def flood(proof: Proof, own: Own, what: str, attack: Callable[[int], int]) -> None:
    """Send requests beside an attack, which lasts some seconds and returns how much of it was done."""
    seconds, (x,) = proof.count(1, prove=5, long=600), images(1)
    before, agent, answers, refused = own.leader.infer(x), own.agents["pi4"], 0, 0
    rss = rss_bytes(agent.process.pid)
    with ThreadPoolExecutor(1) as pool:
        attacked = pool.submit(attack, seconds)
        while not attacked.done():
            try:
                assert own.leader.infer(x).logits.tobytes() == before.logits.tobytes()
                answers += 1
            except DeployError as error:  # a flood from a device of ours may fill the queue: SECURITY.md
                assert "RESOURCE_EXHAUSTED" in str(error)
                refused += 1
    more = rss_bytes(agent.process.pid) - rss
    assert agent.process.poll() is None
    assert own.leader.infer(x).logits.tobytes() == before.logits.tobytes()
    assert answers and attacked.result() and more < MORE_BYTES
    if LEVEL:
        assert attacked.result() >= PER_S * seconds / 2, "too few to count"
    proof.show(
        f"{attacked.result()} {what} in {seconds} s: {answers} requests beside answered, "
        f"{refused} refused at once, memory {more / 2**20:+.0f} MB; the next is answered"
    )
