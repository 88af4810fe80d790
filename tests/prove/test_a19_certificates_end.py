"""A19: an expiring certificate is warned of from 14 days before, and is renewed without a lost request."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deployments import fleet, images, pieces, segments
from prove.proof import Proof
from prove.proxy import Proxy

from jmsnas.deploy.agent import agent as agent_file
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.transport.certificates import make_certificates
from jmsnas.deploy.transport.identity import expiry_warning, fingerprint, read_identity
from jmsnas.errors import DeployError


def test_it_warns_in_time(tmp_path: Path, proof: Proof) -> None:
    (folder,) = make_certificates(tmp_path, ("pi4",), days=100)
    identity, now = read_identity(folder), datetime.now(UTC)
    warned = [bool(expiry_warning(identity, now + timedelta(days=day, minutes=1))) for day in range(101)]
    # The certificate is valid from a day ago until 100 days from now.
    assert warned == [False] * 86 + [True] * 15
    proof.show("warns from 14 days before the end, not before")


def test_renewed_under_load(tmp_path: Path, proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_file, "_IDENTITY_KEPT_S", 0.1)
    (x,), errors, answers, ends = images(1), [], [0], threading.Event()
    with fleet(tmp_path) as three:
        three.leader.ship(pieces(), segments())

        def load() -> None:
            while not ends.is_set():
                try:
                    three.leader.infer(x, timeout_s=60.0)
                    answers[0] += 1
                except Exception as error:  # any error counts
                    errors.append(error)

        threads = [threading.Thread(target=load) for _ in range(2)]
        for thread in threads:
            thread.start()
        before = {n: read_identity(tmp_path / "certs" / n).certificate_pem for n in three.agents}
        for _ in range(proof.count(2, long=100)):
            time.sleep(0.4)
            make_certificates(tmp_path / "certs", tuple(three.agents))
        time.sleep(0.4)
        # New connections use the new certificates, and the old fingerprint is still accepted.
        newcomer = Leader(tmp_path / "certs" / "leader", three.leader.agents)
        newcomer.ship(pieces(), segments())
        newcomer.infer(x)
        newcomer.close()
        ends.set()
        for thread in threads:
            thread.join()
        for name, agent in three.agents.items():
            assert agent.identity().certificate_pem != before[name]
            assert fingerprint(agent.identity().certificate_pem) == fingerprint(before[name])
    assert not errors and answers[0]
    proof.show(f"renewed under load: {answers[0]} answers, 0 errors")


def test_the_leader_connects_again_after_a_renewal(
    tmp_path: Path, proof: Proof, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_file, "_IDENTITY_KEPT_S", 0.1)
    with fleet(tmp_path, ("pi4",)) as one:
        proxy = Proxy(one.leader.agents["pi4"])
        leader = Leader(tmp_path / "certs" / "leader", {"pi4": proxy.address})
        leader.ship(pieces((6,), ("pi4",)), segments())
        before = one.agents["pi4"].identity().certificate_pem
        make_certificates(tmp_path / "certs", ("pi4",))
        time.sleep(0.2)
        assert one.agents["pi4"].identity().certificate_pem != before
        proxy.cut()
        assert leader.clients["pi4"].healthy(60) and not leader.lost()
        for _ in range(2):
            make_certificates(tmp_path / "certs", ("pi4",))
            time.sleep(0.2)
            proxy.cut()
            _describe(leader)
            leader.ship(pieces((6,), ("pi4",)), segments())
        leader.infer(images(1)[0])
        leader.close()
        proxy.close()
    proof.show("a leader whose connections end after a renewal connects again")


def _describe(leader: Leader) -> None:
    """Call a device whose connection was cut: calls in progress fail, and those after it reach it."""
    for _ in range(100):
        try:
            leader.describe()
            return
        except DeployError:
            time.sleep(0.1)
    raise AssertionError("the device was not reached any more")
