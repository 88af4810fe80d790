"""A4: a frozen agent and a half-open link are detected by heartbeats, independently of deadlines."""

import signal
import time
from pathlib import Path

import pytest
from deployments import images, pieces, segments
from prove.own_agents import own_agents
from prove.proof import Proof
from prove.proxy import Proxy

from jmsnas.deploy.leader.agent_client import DeviceLostError

# Configured: a ping each second, and a second for its answer.
PINGS = 1.6, 2.0, "the time-out of pings"


def test_a_stopped_process_is_noticed(tmp_path: Path, proof: Proof) -> None:
    (x,), found = images(1), []
    with own_agents(tmp_path) as own:
        own.leader.ship(pieces(), segments())
        for _ in range(proof.count(1, prove=5, long=200)):
            own.leader.infer(x)
            own.agents["laptop"].kill(signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(DeviceLostError, match="device laptop: UNAVAILABLE"):
                own.leader.infer(x, timeout_s=120)
            found.append(time.monotonic() - began)
            own.agents["laptop"].kill(signal.SIGCONT)
            assert own.leader.clients["laptop"].healthy(60.0)
            _until_back(own.leader.infer, x)
    proof.show(proof.within(f"SIGSTOP, {len(found)} times: detected within", max(found), *PINGS))


def test_a_half_open_link_is_noticed(tmp_path: Path, proof: Proof) -> None:
    (x,) = images(1)
    with own_agents(tmp_path) as own:
        proxy = Proxy(own.agents["cloud"].address)
        own.leader.agents["cloud"] = proxy.address
        own.leader.ship(pieces(), segments())
        own.leader.infer(x)
        proxy.frozen.set()
        began = time.monotonic()
        with pytest.raises(DeviceLostError, match="device cloud: UNAVAILABLE"):
            own.leader.infer(x, timeout_s=120)
        took_s = time.monotonic() - began
        proxy.close()
    proof.show(proof.within("half-open link detected in", took_s, *PINGS))


def _until_back(ask: object, x: object) -> None:
    for _ in range(600):
        try:
            ask(x)  # type: ignore[operator]
            return
        except DeviceLostError:
            time.sleep(0.1)
    raise AssertionError("it never came back")
