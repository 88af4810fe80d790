"""A16: a request that is retried because its answer was lost gets the same answer and is run once."""

import secrets
import time
from pathlib import Path

import pytest
from deployments import fleet, images, pieces, segments
from prove.proof import Proof
from prove.proxy import Proxy

from jmsnas.deploy.agent.deduplication import ResponseCache
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.parts.runtime import PartRunner
from jmsnas.errors import DeployError

LATE_S = 0.06


def test_lost_answers(tmp_path: Path, proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, runs = proof.count(20, prove=200, long=100_000), [0]
    run = PartRunner.__call__

    def counted(self: PartRunner, x: object) -> object:
        runs[0] += self.manifest.device == "cloud"
        return run(self, x)  # type: ignore[arg-type]

    monkeypatch.setattr(PartRunner, "__call__", counted)
    with fleet(tmp_path) as three:
        three.leader.ship(pieces(), segments())
        proxy = Proxy(three.leader.agents["pi4"])
        leader = Leader(tmp_path / "certs" / "leader", three.leader.agents | {"pi4": proxy.address})
        leader._plan = three.leader._plan
        sent, lost = images(requests), 0
        leader.infer(sent[0])
        runs[0] = 0
        for n, x in enumerate(sent):
            request, before = secrets.token_hex(16), runs[0]
            # Most answers are late; for every tenth request the connection closes before its answer.
            connect(leader)
            if n % 10:
                proxy.late_answers.set()
            else:
                proxy.drop_answers = True
            with pytest.raises(DeployError):
                leader.start(x, LATE_S if n % 10 else 1.0, request=request)()
            proxy.late_answers.clear()
            proxy.drop_answers = False
            lost += runs[0] - before  # a request that did not arrive is run by its retry
            first = three.leader.start(x, 60.0, request=request)()
            again = three.leader.start(x, 60.0, request=request)()
            assert first.logits.tobytes() == again.logits.tobytes() and first.trail == again.trail
            assert runs[0] == before + 1
        leader.close()
        proxy.close()
    assert runs[0] == requests and lost > requests / 2
    proof.show(f"{requests} requests, answers lost ({lost} after they were run): each run once")


def connect(leader: Leader) -> None:
    """Open the connection again that was closed, so that the next request arrives."""
    for _ in range(600):
        try:
            leader.clients["pi4"].clock(1)
            return
        except DeployError:
            time.sleep(0.02)
    raise AssertionError("no connection could be opened any more")


def test_the_window_has_bounds(proof: Proof) -> None:
    now = [0.0]
    window: ResponseCache[int] = ResponseCache(max_entries=1024, max_age_s=60.0, clock=lambda: now[0])
    for n in range(2000):
        assert window.get(n) is None
        window.put(n, n)
    assert len(window._entries) == 1024
    assert window.get(1999) == 1999 and window.get(100) is None
    now[0] = 61.0
    assert window.get(1999) is None
    proof.show("answer cache: 1,024 answers, 60 s")
