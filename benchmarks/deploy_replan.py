"""Session of docs/deploy.md in four namespaces that loses a device before, between and during requests.

Types the commands of docs/deploy.md (certs, agents, deploy) and prints them with their output. Each
deployment loses one device by SIGKILL or SIGSTOP at another moment: before the start, after the plan, during
the requests. Then the same without `--replan`, and with the first device lost.

Checked: exit codes 0, 0, 0, 1, 1; the lost device is named; all requests are answered by the last plan.
Needs root (namespaces); otherwise it prints "not run", and `--check` exits with 1.
"""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy_fidelity import cannot_run
from harness import benchmark_parser, finish
from link_namespaces import namespace, namespaces

DEVICES = ("pi4", "laptop", "jetson", "cloud")
PORT = 7070
# Devices, the moment at which they are lost, and how; `--replan` or not; the expected exit code.
SESSIONS = (
    ("jetson", "before", signal.SIGKILL, True, 0),
    ("laptop", "between", signal.SIGSTOP, True, 0),
    ("cloud", "during", signal.SIGKILL, True, 0),
    ("jetson", "during", signal.SIGKILL, False, 1),
    ("pi4", "during", signal.SIGKILL, True, 1),
)
# Beginning of the line on stderr after which the device is lost; the agents are lost before the command else.
MOMENTS = {"between": "plan ", "during": " images"}


def jmsnas(*words: str, prefix: Sequence[str] = (), name: str = "jmsnas") -> Any:
    """Print and start a command."""
    print(f"$ {' '.join([*prefix, name, *words])}", flush=True)
    command = [*prefix, str(Path(sys.executable).with_name(name)), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output(*words: str) -> str:
    """Run a command to its end, and return what it printed. Raises RuntimeError if it fails."""
    process = jmsnas(*words)
    out, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: {errors.strip()}")
    return str(out)


def start_agent(name: str, address: str, workspace: Path) -> Any:
    """Start the agent of a device in its namespace, and wait until it listens."""
    words = ("--certs", str(workspace / "certs" / name), "--store", str(workspace / "agents" / name))
    prefix = ("ip", "netns", "exec", namespace(name))
    agent = jmsnas(*words, "--listen", f"{address}:{PORT}", prefix=prefix, name="jmsnas-agent")
    print(agent.stdout.readline().rstrip(), flush=True)
    return agent


def deploy(session: tuple[Any, ...], agents: dict[str, Any], workspace: Path, requests: int) -> list[str]:
    """Run one deployment, lose the device at its moment, and return what was not as expected."""
    device, moment, number, replan, expected = session
    print(f"\n--- {device} is lost {moment}: {signal.Signals(number).name}, --replan {replan}")
    words = ["deploy", "replan", "--requests", str(requests), "--json", "--workspace", str(workspace)]
    if moment == "before":
        lose(agents, device, number)
    process = jmsnas(*words, *(["--replan"] if replan else []))
    lost = moment == "before"
    for line in process.stderr:
        print(line.rstrip(), flush=True)
        if not lost and MOMENTS[moment] in line:
            lose(agents, device, number)
            lost = True
    document = json.loads(process.stdout.read() or "{}")
    code = process.wait()
    print(f"exit code {code}")
    missed = [] if code == expected else [f"{device} {moment}: exit code {code}, expected {expected}"]
    if code == 0:
        for key in ("lost", "epoch", "pieces", "answered", "repeated"):
            print(f"{key}: {json.dumps(document[key])}")
        whole = document["answered"][-1]["requests"] >= requests + document["pipelined"]["images"]
        if document["lost"] != [device] or not whole or not document["accuracy"]["equal"]:
            missed.append(f"{device} {moment}: lost {document['lost']}, answered {document['answered']}")
    return missed


def lose(agents: dict[str, Any], device: str, number: int) -> None:
    """Kill or stop the agent of a device."""
    print(f"$ kill -{signal.Signals(number).name[3:]} {agents[device].pid}  # {device}", flush=True)
    agents[device].send_signal(number)


def end(agent: Any) -> None:
    """End an agent, a stopped one too."""
    agent.kill()
    agent.wait()


def main(arguments: argparse.Namespace, workspace: Path) -> list[str]:
    """Run all sessions in new namespaces."""
    common = ("--workspace", str(workspace))
    if not (workspace / "runs" / "replan").exists():
        output("search", "--topology", "chain", "--name", "replan", *common)
    devices = [word for name in DEVICES for word in ("--device", name)]
    made = json.loads(output("certs", *devices, "--json", *common))
    pairs = [(one, other) for n, one in enumerate(DEVICES) for other in DEVICES[n + 1 :]]
    missed: list[str] = []
    with namespaces(DEVICES, pairs) as where:
        entry = '[[device]]\nname = "{}"\naddress = "{}:{}"\nfingerprint = "{}"\n'
        text = "".join(entry.format(n, where[n], PORT, made["fingerprints"][n]) for n in DEVICES)
        (workspace / "devices.toml").write_text(text)
        agents = {name: start_agent(name, where[name], workspace) for name in DEVICES}
        try:
            for session in SESSIONS:
                missed += deploy(session, agents, workspace, arguments.requests)
                end(agents[session[0]])
                agents[session[0]] = start_agent(session[0], where[session[0]], workspace)
        finally:
            for agent in agents.values():
                end(agent)
    return missed


if __name__ == "__main__":
    parser = benchmark_parser(__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--work", type=Path, required=True, help="workspace: the run is kept there")
    given = parser.parse_args()
    not_run = cannot_run()
    finish(given, {}, ["not run"] if not_run else main(given, given.work.resolve()))
