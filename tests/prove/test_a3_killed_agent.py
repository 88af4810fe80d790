"""A3: an agent killed during inference is reported at once, and a plan without it serves within seconds."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from deployments import images, pieces, segments
from prove.own_agents import own_agents
from prove.proof import Proof

from jmsnas.deploy.leader.agent_client import DeviceLostError

REPORTED_S, SERVES_S = 0.1, 2.0


def test_kill_mid_inference(tmp_path: Path, proof: Proof) -> None:
    kills, reported, served = proof.count(2, prove=30, long=1000), [], []
    (x,) = images(1)
    slow = tuple(replace(piece, hold_s=0.3 if piece.device == "laptop" else 0.0) for piece in pieces())
    with own_agents(tmp_path) as own:
        for _ in range(kills):
            own.leader.ship(slow, segments())
            wait = own.leader.start(x, 5.0)
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
            own.leader.clients["laptop"].healthy(5.0)
    assert max(reported) < REPORTED_S and max(served) < SERVES_S
    proof.show(
        f"{kills} kills: reported in {1e3 * min(reported):.1f} to {1e3 * max(reported):.0f} ms, "
        f"new plan serves in {min(served):.2f} to {max(served):.2f} s"
    )
