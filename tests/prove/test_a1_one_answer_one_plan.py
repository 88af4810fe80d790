"""A1: each answer equals bit for bit the logits of exactly one plan, whatever is killed or disconnected.

Every plan has its own weights, so that any mix of old and new parts is detected.
"""

import random
import signal
import threading
import time
from pathlib import Path

from deployments import DEVICES, images, pieces, segments
from prove.own_agents import Own, Reference, own_agents
from prove.proof import LEVEL, Proof
from prove.proxy import Proxy

from jmsnas.deploy.leader.leader import Leader
from jmsnas.errors import JmsnasError

CUTS = ((1, 3, 6), (2, 4, 6), (4, 5, 6), (1, 5, 6))
KINDS = ("swap", "kill", "leader", "stop", "cut", "swap", "freeze")
IMAGES = images(16)
Plans = dict[int, tuple[int, tuple[int, ...]]]


class Load:
    """Clients that send requests by the current leader, and the history of their answers."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.history: list[tuple[int, int, bytes]] = []
        self.errors = 0
        self.taken_s: list[float] = []
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(4)]

    def _ask(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self._ends.is_set():
            n, began = rng.randrange(len(IMAGES)), time.monotonic()
            try:
                answer = self.leader.infer(IMAGES[n], timeout_s=1.0 if LEVEL else 10.0)
                self.history.append((n, answer.epoch, answer.logits.tobytes()))
            except (JmsnasError, ValueError):  # a closed channel of a leader that has ended
                self.errors += 1
                time.sleep(0.005)
            self.taken_s.append(time.monotonic() - began)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(100)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"


def ship(load: Load, plans: Plans, rng: random.Random, tries: int = 400) -> None:
    """Ship a plan with other weights, and wait until it serves."""
    seed, cuts = len(plans) % 3, CUTS[rng.randrange(len(CUTS))]
    for _ in range(tries):
        try:
            load.leader.ship(pieces(cuts), segments(seed))
        except JmsnasError:
            time.sleep(0.1)
            continue
        plans[load.leader.epoch] = seed, cuts
        return
    raise AssertionError("no plan could be shipped any more")


def through(own: Own, proxy: Proxy) -> Leader:
    """Return a leader whose plans use the proxy for the last link."""
    leader = own.new_leader()
    leader.agents["cloud"] = proxy.address
    return leader


def fault(own: Own, load: Load, plans: Plans, proxy: Proxy, rng: random.Random, number: int) -> str:
    kind = KINDS[number % len(KINDS)]
    agent = own.agents[rng.choice(DEVICES)]
    if kind == "kill":
        agent.restart()
    elif kind == "stop":
        agent.kill(signal.SIGSTOP)
        time.sleep(0.3)
        agent.kill(signal.SIGCONT)
    elif kind == "cut":
        proxy.cut()
    elif kind == "freeze":
        proxy.frozen.set()
        time.sleep(0.3)
        proxy.frozen.clear()
    elif kind == "leader":
        load.leader = through(own, proxy)
    if kind in ("swap", "leader"):
        ship(load, plans, rng)
    return kind


def test_every_answer_is_of_one_plan(tmp_path: Path, proof: Proof) -> None:
    seconds, faults = proof.count(8, prove=60, long=3000), proof.count(7, prove=20, long=3600)
    rng, plans, kinds = random.Random(1), Plans(), list[str]()
    with own_agents(tmp_path) as own:
        proxy = Proxy(own.agents["cloud"].address)
        load = Load(through(own, proxy))
        ship(load, plans, rng)
        with load:
            time.sleep(2.0)  # without faults, for comparison
            quiet = len(load.history)
            began = time.monotonic()
            for n in range(faults):
                time.sleep(max(0.0, began + (n + 0.5) * seconds / faults - time.monotonic()))
                kinds.append(fault(own, load, plans, proxy, rng, n))
            time.sleep(max(0.5, began + seconds - time.monotonic()))
            while len(load.history) <= 100:  # a busy machine needs more time
                time.sleep(0.1)
            took_s, answers = time.monotonic() - began, len(load.history) - quiet
        proxy.close()
    expected = {epoch: Reference(*plan) for epoch, plan in plans.items()}
    known = {(n, epoch): expected[epoch](IMAGES[n]) for n, epoch, _ in load.history if epoch in expected}
    wrong = [(n, epoch) for n, epoch, logits in load.history if known.get((n, epoch)) != logits]
    assert not wrong
    assert len({known[key] for key in known if key[0] == 0}) > 1, (
        "the plans answer the same: nothing is shown"
    )
    slowest = proof.within("slowest request", max(load.taken_s), 5, 1.0, "its deadline")
    # Few answers would show little: at least a quarter of those of the same clients without faults.
    pace = proof.within("time of an answer", took_s / answers, 4, 2.0 / quiet, "that without faults")
    words = f"{answers} answers ({answers / took_s:.0f}/s), {load.errors} errors, {len(plans)} plans"
    proof.show(
        f"{words}, {faults} faults ({', '.join(sorted(set(kinds)))}): 0 mixed, 0 hangs; {slowest}, {pace}"
    )
