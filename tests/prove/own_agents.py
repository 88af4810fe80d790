"""Agents in separate processes, a leader, and the reference logits of a plan, bit for bit."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from deployments import DEVICES, exported
from numpy.typing import NDArray

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.loopback import LoopbackAgent, leader_certs, loopback_agents
from jmsnas.profiler.timing.onnx_session import open_session


@dataclass
class Own:
    folder: Path
    agents: dict[str, LoopbackAgent]
    leader: Leader
    leaders: list[Leader] = field(default_factory=list)

    def new_leader(self) -> Leader:
        made = Leader(leader_certs(self.folder), {name: a.address for name, a in self.agents.items()})
        self.leaders.append(made)
        return made

    def request_times(self, x: NDArray[np.float32], count: int = 100) -> list[float]:
        """Measure the durations of requests one after another, seconds."""
        taken = []
        for _ in range(count):
            began = time.monotonic()
            self.leader.infer(x)
            taken.append(time.monotonic() - began)
        return taken


@contextmanager
def own_agents(folder: Path, devices: Sequence[str] = DEVICES) -> Iterator[Own]:
    with loopback_agents(devices, folder) as agents:
        leader = Leader(leader_certs(folder), {name: agent.address for name, agent in agents.items()})
        found = Own(folder, agents, leader, [leader])
        try:
            yield found
        finally:
            for one in found.leaders:
                one.close()


class Reference:
    """Logits of a plan, computed by the same parts in this process."""

    def __init__(self, seed: int, cuts: Sequence[int]) -> None:
        models = [
            exported(seed).onnx_part(first + 1, last) for first, last in zip((0, *cuts), cuts, strict=False)
        ]
        self._sessions = [open_session(model, 1) for model in models if model is not None]

    def __call__(self, x: NDArray[np.float32]) -> bytes:
        for session in self._sessions:
            (x,) = session.run(None, {session.get_inputs()[0].name: x})
        return x.tobytes()


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
