"""A5: at ten times the load the queue is bounded, excess requests are refused at once, memory is constant."""

import secrets
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import grpc
import numpy as np
from deployments import images, pieces, segments
from prove.own_agents import own_agents, rss_bytes
from prove.proof import Proof

from jmsnas.deploy.transport.data_link import Answer
from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec
from jmsnas.deploy.transport.refusal import RequestRefusedError

MORE_BYTES, DEADLINE_S = 32 << 20, 60.0


def test_waves_of_ten_times_the_capacity(tmp_path: Path, proof: Proof) -> None:
    waves, (x,) = proof.count(3, prove=5, long=500), images(1)
    with own_agents(tmp_path, ("pi4",)) as own:
        alone = pieces((6,), ("pi4",))
        own.leader.ship(tuple(replace(piece, hold_s=0.05) for piece in alone), segments())
        own.leader.infer(x)
        request_s = max(own.request_times(x))
        # The requests of one connection are read in turn: each client has its own connection.
        leaders = [own.leader, *(own.new_leader() for _ in range(9))]
        for leader in leaders:
            leader._plan = own.leader._plan
            leader.infer(x)
        tensors, body = (TensorSpec("f4", x.shape),), x.tobytes()
        before, quick, answered, refused = rss_bytes(own.agents["pi4"].process.pid), [], 0, 0
        for _ in range(waves):
            ends = list[tuple[grpc.StatusCode, float]]()
            for leader in [leader for _ in range(9) for leader in leaders]:
                frame = Frame(Kind.RUN, 0, leader.epoch, secrets.token_bytes(16), tensors=tensors, body=body)
                began, link = time.monotonic(), leader.clients["pi4"]._link
                link.request(frame, began + DEADLINE_S, partial(_ended, ends, began), 1 << 20)
            while len(ends) < 90:
                time.sleep(0.01)
            assert {code for code, _ in ends} == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
            taken = [seconds for code, seconds in ends if code == grpc.StatusCode.OK]
            quick += [seconds for code, seconds in ends if code != grpc.StatusCode.OK]
            answered, refused = answered + len(taken), refused + len(ends) - len(taken)
            own.leader.infer(x)
        more = rss_bytes(own.agents["pi4"].process.pid) - before
    assert refused > 5 * answered / 2 and answered >= 9 * waves
    assert more < MORE_BYTES
    p99 = proof.within(
        "p99", float(np.quantile(quick, 0.99)), 1, request_s, "the slowest of 100 single requests"
    )
    proof.show(
        f"{waves} waves of 90: {answered} answered in time, {refused} refused ({p99}), "
        f"memory {more / 2**20:+.1f} MB"
    )


def _ended(ends: list[tuple[grpc.StatusCode, float]], began: float, answer: Answer) -> None:
    code = answer.code if isinstance(answer, RequestRefusedError) else grpc.StatusCode.OK
    ends.append((code, time.monotonic() - began))
