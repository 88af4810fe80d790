"""`jmsnas deploy` as one call: load the run, reach or start the agents, plan, run, compare, write."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmsnas.deploy.leader.calibration import load_calibrated_estimators
from jmsnas.deploy.leader.deployment import Deployment, prepare_deployment, run_images
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.leader.load_run import TrainedRun, load_run, with_tables
from jmsnas.deploy.leader.measured_terms import HopTiming, hop_timings
from jmsnas.deploy.leader.predicted_vs_measured import measure_deployment
from jmsnas.deploy.leader.runtime_choice import choose_torch_runtimes, with_runtimes
from jmsnas.deploy.loopback import leader_certs, loopback_agents
from jmsnas.deploy.perfetto import TRACE_FILE, perfetto_tar
from jmsnas.deploy.transport.devices_file import agents_for
from jmsnas.errors import InputError
from jmsnas.files import write_atomic, write_json
from jmsnas.progress import Progress, no_progress
from jmsnas.topology import Topology
from jmsnas.workspace import Workspace

DEPLOYMENT_FILE = "deploy.json"
_LEG = ("source", "device", "sent_s", "received_s", "begun_s", "ended_s")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DeployResult:
    """What `jmsnas deploy` found, where it is written, and what it rests on."""

    document: dict[str, Any]
    path: Path
    topology: Topology
    simulated: list[str]


def deploy_run(
    workspace: Workspace,
    folder: Path,
    loopback: bool = False,
    cuts: Sequence[int] | None = None,
    requests: int = 200,
    replan: bool = False,
    emulate: bool = False,
    progress: Progress = no_progress,
    log: Say = lambda text: None,
    warn: Say = lambda text: None,
    runtimes: Sequence[str] = (),
) -> DeployResult:
    """Deploy a finished run and write `deploy.json` into its folder.

    Parameters
    ----------
    place, folder
        The workspace, and the run's folder.
    loopback
        Start an agent for each device here; U(.) of this host then speaks for all of them.
    cuts
        A split that is given.
    requests
        Images that are timed one by one.
    replan
        Go on without a device that is lost.
    emulate
        On loopback: each agent answers no sooner than its device would by its table, and links are paced to
        the network's rates. Such terms are held, and enter no error.
    runtimes
        What runs the parts, where it is not what the network's file says: as of `with_runtimes`.

    Raises
    ------
    InputError
        For a run or a device that cannot be used.
    DeployError
        When a device is lost, or refuses its part.
    """
    run = load_run(workspace, folder)
    _refuse(run, cuts, emulate and not loopback)
    names = tuple(device.name for device in run.topology.devices)
    own = {device.name: device.table for device in run.topology.devices if device.table != "local"}
    with _leader(workspace, names, loopback, own if emulate else {}) as leader:
        told = leader.collect()
        emulated = {name: str(told[name]["emulate"]) for name in names if told[name]["emulate"]}
        tables = {**(dict.fromkeys(names, "local") if loopback else {}), **emulated}
        topology = with_runtimes(with_tables(run.topology, tables), runtimes)
        predictors, origins = load_calibrated_estimators(topology, run.space, workspace, warn, progress)
        cache = workspace.folder / "cache" / "onnx"
        torch = choose_torch_runtimes(topology, predictors, leader, told, warn)
        deployment = prepare_deployment(
            run, leader, topology, predictors, cache, log, frozenset(emulated), emulate, torch
        )
        _plan(deployment, cuts, replan)
        if replan:
            run_images(deployment, [run.pixels[:1]] * len(names), 1, replan=True)
        document, answers = measure_deployment(deployment, run.pixels, run.labels, requests, progress)
    document |= {"loopback": loopback, "simulated": _of("simulated", origins)}
    document["published"] = _of("published", origins)
    _write(folder, document, [hop_timings(answer.trail, deployment.links) for answer in answers])
    return DeployResult(document, folder / DEPLOYMENT_FILE, deployment.topology, document["simulated"])


def _of(origin: str, origins: Mapping[str, str]) -> list[str]:
    return [name for name, its in origins.items() if its == origin]


def _refuse(run: TrainedRun, cuts: Sequence[int] | None, emulated_elsewhere: bool) -> None:
    if emulated_elsewhere:
        raise InputError(
            "--emulate is for --loopback: on a device of its own, start jmsnas agent --emulate DEVICE"
        )
    if cuts is not None and (
        len(cuts) != len(run.topology.main_path) or cuts[-1] != len(run.space.main_path)
    ):
        raise InputError(
            f"--cuts {','.join(map(str, cuts))}: expected {len(run.topology.main_path)} numbers that do not "
            f"fall, the last {len(run.space.main_path)}, one for each of {', '.join(run.topology.main_path)}"
        )


def _write(folder: Path, document: dict[str, Any], requests: Sequence[Sequence[HopTiming]]) -> None:
    """Write the document with the timeline of the request of median T, and a trace of the last ones."""
    found = sorted(requests, key=_end_s)
    document["timeline"] = [dict(zip(_LEG, leg, strict=True)) for leg in found[len(found) // 2]]
    write_json(folder / DEPLOYMENT_FILE, document)
    write_atomic(folder / TRACE_FILE, perfetto_tar(requests[-20:]))


def _plan(deployment: Deployment, cuts: Sequence[int] | None, replan: bool) -> None:
    if replan and deployment.leader.lost():
        deployment.replan()
    else:
        deployment.plan(cuts)


def _end_s(found: Sequence[HopTiming]) -> float:
    return max(leg[5] for leg in found)


@contextmanager
def _leader(
    workspace: Workspace, names: tuple[str, ...], loopback: bool, emulate: dict[str, str]
) -> Iterator[Leader]:
    if not loopback:
        leader = Leader(workspace.certs / "leader", agents_for(names, workspace.devices_file))
        try:
            yield leader
        finally:
            leader.close()
        return
    with (
        tempfile.TemporaryDirectory(prefix="jmsnas-") as folder,
        loopback_agents(names, Path(folder), emulate=emulate) as agents,
    ):
        leader = Leader(leader_certs(Path(folder)), {name: agent.address for name, agent in agents.items()})
        try:
            yield leader
        finally:
            leader.close()


def parse_cuts(text: str) -> tuple[int, ...]:
    """Read `2,4,9,12`. Raises InputError."""
    try:
        cuts = tuple(int(word) for word in text.split(","))
    except ValueError:
        cuts = ()
    if not cuts or list(cuts) != sorted(cuts) or cuts[0] < 0:
        raise InputError(f"--cuts {text}: expected whole numbers that do not fall, as in 2,4,9,12")
    return cuts
