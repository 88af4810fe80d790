"""A2: every request ends with an answer or an error within milliseconds of its deadline."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deployments import fleet, images, pieces, segments
from prove.proof import Proof
from prove.proxy import Proxy

from jmsnas.deploy.leader.agent_client import DeviceLostError
from jmsnas.deploy.leader.leader import Leader

DEADLINE_S, CLIENTS = 0.1, 4


def test_the_deadline_is_kept_behind_a_slow_device(tmp_path: Path, proof: Proof) -> None:
    calls = proof.count(100, prove=500, long=100_000)
    slow = tuple(replace(piece, hold_s=0.5 if piece.device == "cloud" else 0.0) for piece in pieces())
    (x,) = images(1)
    with fleet(tmp_path) as three:
        three.leader.ship(pieces(), segments())
        three.leader.infer(x)  # the devices have connected
        gc.collect()  # garbage of the export

        def request(_: int) -> float:
            began = time.monotonic()
            three.leader.infer(x)
            return time.monotonic() - began

        def overshoot(_: int) -> float:
            began = time.monotonic()
            with pytest.raises(DeviceLostError, match="DEADLINE_EXCEEDED"):
                three.leader.infer(x, timeout_s=DEADLINE_S)
            return time.monotonic() - began - DEADLINE_S

        with ThreadPoolExecutor(CLIENTS) as pool:
            usual_s = float(np.quantile(list(pool.map(request, range(calls))), 0.99))
            three.leader.ship(slow, segments())
            late = list(pool.map(overshoot, range(calls)))
    over = proof.within("overshoot p99", float(np.quantile(late, 0.99)), 3, usual_s, "p99 of a request")
    proof.show(f"{calls} calls, {CLIENTS} at a time, 0 answered late: {over}, max {1e3 * max(late):.1f} ms")


def test_the_deadline_is_kept_while_a_connection_is_opened(tmp_path: Path, proof: Proof) -> None:
    (x,), late = images(1), list[float]()
    with fleet(tmp_path, ("pi4",)) as one:
        one.leader.ship(pieces((6,), ("pi4",)), segments())
        proxy = Proxy(one.leader.agents["pi4"])
        proxy.frozen.set()  # it accepts connections, and the handshake never ends
        for _ in range(proof.count(2, prove=10, long=200)):
            leader = Leader(tmp_path / "certs" / "leader", {"pi4": proxy.address})
            leader._plan = one.leader._plan
            began = time.monotonic()
            with pytest.raises(DeviceLostError, match="device pi4: the deadline passed"):
                leader.infer(x, timeout_s=DEADLINE_S)
            late.append(time.monotonic() - began - DEADLINE_S)
            leader.close()
        proxy.close()
    over = proof.within("overshoot", max(late), 1, DEADLINE_S, "the deadline")
    proof.show(f"{len(late)} requests of clients that cannot connect: {over}")
