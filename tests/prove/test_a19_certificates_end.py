"""A19: an expiring certificate is warned of from 14 days before, and is renewed without a lost request."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deployments import fleet, images, pieces, segments
from prove.proof import Proof

from jmsnas.deploy.agent import agent as agent_file
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.transport.certificates import make_certificates
from jmsnas.deploy.transport.identity import expiry_warning, fingerprint, read_identity


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
