"""Start agents on this machine's loopback interface, one process each, to deploy without devices."""

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmsnas.deploy.transport.certificates import LEADER, make_certificates
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.identity import fingerprint, read_identity
from jmsnas.errors import DeployError

_START_TIMEOUT_S = 60.0


@dataclass(slots=True)
class LoopbackAgent:
    """An agent process on this machine, with its address and command line."""

    address: AgentAddress
    process: Any
    command: tuple[str, ...]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def restart(self) -> None:
        """Restart the process on the same port and store. Raises DeployError."""
        self.process.kill()
        _reap(self.process)
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
    """Start an agent for each device's name, and stop them at the end.

    Parameters
    ----------
    folder
        Folder of certificates (kept) and stores: `certs/` and `agents/<name>/`.
    plain
        Listen without TLS.
    prefix
        Arguments before each command, such as `ip netns exec NAME`.
    emulate
        Device whose latency an agent emulates, by agent; the others respond as fast as they can.
    host
        Address to listen on.

    Raises
    ------
    DeployError
        When an agent does not start within a minute.
    """
    make_certificates(folder / "certs", tuple(names))
    options = {name: ("--emulate", emulate[name]) if emulate and name in emulate else () for name in names}
    no_tls = ("--plain",) if plain else ()
    commands = {name: (*prefix, *_command(folder, name, host), *no_tls, *options[name]) for name in names}
    processes: dict[str, Any] = {}
    agents: dict[str, LoopbackAgent] = {}
    try:
        processes = {name: _start(command) for name, command in commands.items()}
        for name, process in processes.items():
            address = _address(process, name)
            pin = fingerprint(read_identity(folder / "certs" / name).certificate_pem)
            restart = tuple(address if part == f"{host}:0" else part for part in commands[name])
            agents[name] = LoopbackAgent(AgentAddress(name, address, pin), process, restart)
        yield agents
    finally:
        for agent in agents.values():
            processes[agent.address.name] = agent.process
        _stop(list(processes.values()))


def _command(folder: Path, name: str, host: str) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "jmsnas.deploy.agent.agent"),
        *("--certs", str(folder / "certs" / name)),
        *("--store", str(folder / "agents" / name)),
        *("--listen", f"{host}:0"),
        "--until-stdin-ends",
    )


def _stop(processes: Sequence[Any]) -> None:
    """Terminate all processes, paused ones included; after 5 s each is killed."""
    for process in processes:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    for process in processes:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
        _reap(process)


def _reap(process: Any) -> None:
    process.wait()
    process.stdout.close()
    process.stdin.close()


def leader_certs(folder: Path) -> Path:
    """Return the folder of the leader's keys that `loopback_agents` made."""
    return folder / "certs" / LEADER


def _start(command: Sequence[str]) -> Any:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    # A session of its own: Ctrl-C at the terminal reaches only this process, which then stops the agents.
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=environment, start_new_session=True
    )


def _address(process: Any, name: str) -> str:
    """Read the address of an agent from its first line of output."""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        ready = selector.select(_START_TIMEOUT_S)
    line = process.stdout.readline().decode().strip() if ready else ""
    if " listens on " not in line:
        raise DeployError(
            f"the agent of {name} did not start on loopback: see its output above, and jmsnas doctor"
        )
    return line.rpartition(" ")[2]
