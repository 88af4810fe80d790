"""A3: an agent killed during inference is reported at once, and a plan without it serves soon."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from deployments import images, pieces, segments
from prove.own_agents import own_agents
from prove.proof import Proof

from jmsnas.deploy.leader.agent_client import DeviceLostError


def test_kill_mid_inference(tmp_path: Path, proof: Proof) -> None:
    kills, reported, served = proof.count(2, prove=30, long=1000), [], []
    (x,) = images(1)
    slow = tuple(replace(piece, hold_s=30.0 if piece.device == "laptop" else 0.0) for piece in pieces())
    with own_agents(tmp_path) as own:
        began = time.monotonic()
        own.leader.ship(pieces(), segments())
        own.leader.infer(x)
        first_s, requests = time.monotonic() - began, own.request_times(x)
        for _ in range(kills):
            own.leader.ship(slow, segments())
            wait = own.leader.start(x, 60.0)
            killed_s = [0.0]

            def kill(at: list[float] = killed_s) -> None:
                time.sleep(0.15)
                at[0] = time.monotonic()
                own.agents["laptop"].kill()

            thread = threading.Thread(target=kill)
            thread.start()
            with pytest.raises(DeviceLostError, match="device laptop: UNAVAILABLE"):
                wait()
            reported.append(time.monotonic() - killed_s[0])
            thread.join()
            began = time.monotonic()
            own.leader.ship(pieces((2, 6), ("pi4", "cloud")), segments())
            own.leader.infer(x)
            served.append(time.monotonic() - began)
            own.agents["laptop"].restart()
            own.leader.clients["laptop"].healthy(60.0)
    seen = proof.within("reported within", max(reported), 10, max(requests), "the slowest of 100 requests")
    again = proof.within("new plan serves within", max(served), 5, first_s, "the first deployment")
    proof.show(f"{kills} kills: {seen}, {again}")
