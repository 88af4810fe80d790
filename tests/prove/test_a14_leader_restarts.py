"""A14: when a leader is killed while it ships, agents keep complete parts, which are not sent again."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest
from prove.own_agents import Own, own_agents
from prove.proof import Proof
from prove.shipper import ship

SEEDS = 3

# Leaders are forked from a process that has imported everything and run nothing.
CLEAN = multiprocessing.get_context("forkserver")
CLEAN.set_forkserver_preload(["prove.shipper", "torch._dynamo"])


def leader(own: Own, seed: int, after_s: float | None = None) -> tuple[float, dict[str, int]]:
    """Start a leader; without `after_s` return the seconds to its first answer and the bytes sent.

    With it, kill the leader so many seconds after its start.
    """
    near, far = CLEAN.Pipe()
    addresses = {name: agent.address for name, agent in own.agents.items()}
    process = CLEAN.Process(target=ship, args=(own.folder, addresses, seed, far))
    process.start()
    far.close()
    assert near.poll(600) and near.recv()[0] == "begins"
    if after_s is not None:
        process.join(after_s)
        process.kill()
        process.join()
        near.close()
        return 0.0, {}
    assert near.poll(600), "no answer"
    _, seconds, sent = near.recv()
    process.join()
    near.close()
    return seconds, sent


def test_killed_while_shipping(tmp_path: Path, proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # so that the fork server can import them
    kills, answered, again, whole = proof.count(3, prove=20, long=500), list[float](), 0, 0
    with own_agents(tmp_path) as own:
        # Each plan once, so that it is exported; the last one gives the duration of a deployment.
        lasts_s = [leader(own, seed)[0] for seed in range(SEEDS)][-1]
        for n in range(kills):
            for blob in (tmp_path / "agents").glob("*/blobs/*"):
                blob.unlink()
            leader(own, n % SEEDS, (n + 0.5) / kills * lasts_s)
            seconds, sent = leader(own, n % SEEDS)
            answered.append(seconds)
            again += sum(size == 0 for size in sent.values())
            assert not list((tmp_path / "agents").rglob("*.part")), "half a blob was left behind"
            seconds, sent = leader(own, n % SEEDS)
            answered.append(seconds)
            whole += sum(sent.values())
    assert whole == 0, "parts that were there travelled again"
    first = proof.within("first answer of the next leader within", max(answered), 4, lasts_s, "a deployment")
    proof.show(
        f"{kills} kills, spread over a deployment: {first}, {again} of {3 * kills} parts were complete, of "
        "complete plans 0 bytes were sent again"
    )
