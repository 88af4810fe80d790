"""Agents on this machine's loopback, each a process of its own: to try a deployment without devices."""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmsnas.deploy.transport.certificates import LEADER, make_certificates
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.identity import fingerprint, read_identity
from jmsnas.errors import DeployError

_STARTED_WITHIN_S = 60.0


@dataclass(slots=True)
class LoopbackAgent:
    """An agent that this process started."""

    address: AgentAddress
    process: Any
    command: tuple[str, ...]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send its process a signal."""
        self.process.send_signal(number)

    def restart(self) -> None:
        """Start it again on the same port and store. Raises DeployError."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stdin.close()
        self.process = _start(self.command)
        _address(self.process, self.address.name)


@contextmanager
def loopback_agents(
    names: Sequence[str],
    folder: Path,
    plain: bool = False,
    prefix: Sequence[str] = (),
    emulate: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
) -> Iterator[dict[str, LoopbackAgent]]:
    """Start an agent for each name, and end them all.

    Parameters
    ----------
    names
        Their devices.
    folder
        For certificates (kept) and stores: `certs/` and `agents/<name>/`.
    plain
        No TLS.
    prefix
        Words before each command, such as `ip netns exec NAME`.
    host
        Where they listen.
    emulate
        The device whose times each of them is to keep; those that are not named answer as fast as they can.

    Raises
    ------
    DeployError
        When one does not start within a minute.
    """
    make_certificates(folder / "certs", tuple(names))
    more = {name: ("--emulate", emulate[name]) if emulate and name in emulate else () for name in names}
    plainly = ("--plain",) if plain else ()
    commands = {name: (*prefix, *_command(folder, name, host), *plainly, *more[name]) for name in names}
    processes: dict[str, Any] = {}
    agents: dict[str, LoopbackAgent] = {}
    try:
        processes = {name: _start(command) for name, command in commands.items()}
        for name, process in processes.items():
            where = _address(process, name)
            pin = fingerprint(read_identity(folder / "certs" / name).certificate_pem)
            again = tuple(where if word == f"{host}:0" else word for word in commands[name])
            agents[name] = LoopbackAgent(AgentAddress(name, where, pin), process, again)
        yield agents
    finally:
        for agent in agents.values():
            processes[agent.address.name] = agent.process
        _end(list(processes.values()))


def _command(folder: Path, name: str, host: str) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "jmsnas.deploy.agent.agent"),
        *("--certs", str(folder / "certs" / name)),
        *("--store", str(folder / "agents" / name)),
        *("--listen", f"{host}:0"),
        "--until-stdin-ends",
    )


def _end(processes: Sequence[Any]) -> None:
    """End all, those that were stopped too; 5 s each, then by force."""
    for process in processes:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    for process in processes:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        process.stdin.close()


def leader_certs(folder: Path) -> Path:
    """Where the leader's keys lie that `loopback_agents` made."""
    return folder / "certs" / LEADER


def _start(command: Sequence[str]) -> Any:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    # A session of its own: Ctrl-C at the terminal reaches this process alone, which then ends the agents.
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=environment, start_new_session=True
    )


def _address(process: Any, name: str) -> str:
    """Read where an agent listens from its first line."""
    ends_s = time.monotonic() + _STARTED_WITHIN_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        ready = selector.select(max(0.0, ends_s - time.monotonic()))
    line = process.stdout.readline().decode().strip() if ready else ""
    if " listens on " not in line:
        raise DeployError(
            f"the agent of {name} did not start on loopback: see jmsnas doctor, and its words above"
        )
    return line.rpartition(" ")[2]
