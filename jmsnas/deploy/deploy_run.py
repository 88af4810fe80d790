"""Deploy a finished run: start or reach the agents, plan, ship, run images, write `deploy.json`."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jmsnas.deploy.leader.agent_client import DeviceLostError
from jmsnas.deploy.leader.calibration import load_calibrated_estimators
from jmsnas.deploy.leader.deadline import JudgedDeadline, judge_deadline
from jmsnas.deploy.leader.deployment import (
    Deployment,
    Emulation,
    drop_lost_devices,
    prepare_deployment,
    unreachable_device,
)
from jmsnas.deploy.leader.latency_spread import keep_spread, measure_spread
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.leader.load_run import TrainedRun, load_run, over_topology, with_tables
from jmsnas.deploy.leader.measured_terms import HopTiming, end_s, hop_timings
from jmsnas.deploy.leader.predicted_vs_measured import measure_deployment
from jmsnas.deploy.leader.runtime_choice import choose_torch_runtimes, with_runtimes
from jmsnas.deploy.leader.solve_split import without_devices
from jmsnas.deploy.loopback import leader_certs, loopback_agents
from jmsnas.deploy.perfetto import TRACE_FILE, perfetto_tar
from jmsnas.deploy.transport.devices_file import agents_for
from jmsnas.errors import DeployError, InputError
from jmsnas.files import write_atomic, write_json
from jmsnas.nas.run_result import read_result
from jmsnas.progress import Progress, no_progress
from jmsnas.topology import Topology, load_topology
from jmsnas.workspace import Workspace

DEPLOYMENT_FILE = "deploy.json"
Log = Callable[[str], None]
Output = tuple[Progress, Log, Log]  # progress, log, warn
# Attempts to plan while devices fail.
_TRIES = 8


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """Options of `deploy_run`.

    Attributes
    ----------
    loopback
        Start an agent for each device on this machine, and use U(.) of this machine for all of them.
    cuts
        A given split of the main path, instead of the best one.
    requests
        Number of timed requests sent one by one.
    replan
        Plan again without a device that is lost, instead of raising.
    emulate
        With `loopback`: each agent responds no sooner than its device would by its table, and links are paced
        to the rates of the topology. Emulated terms are marked and enter no error.
    runtimes
        Runtimes of the parts, where they differ from the topology file: see `with_runtimes`.
    topology
        Name or file of another topology than the run's; a chain for a chain, a mesh for a mesh.
    """

    loopback: bool = False
    cuts: tuple[int, ...] | None = None
    requests: int = 200
    replan: bool = False
    emulate: bool = False
    runtimes: tuple[str, ...] = ()
    topology: str | None = None


@dataclass(frozen=True, slots=True)
class DeployResult:
    """Result of a deployment: content and path of `deploy.json`, topology, simulated devices, deadline."""

    document: dict[str, Any]
    path: Path
    topology: Topology
    simulated: list[str]
    deadline: JudgedDeadline


def deploy_run(
    workspace: Workspace,
    folder: Path,
    options: DeployOptions = DeployOptions(),  # noqa: B008 - frozen
    progress: Progress = no_progress,
    log: Log = lambda text: None,
    warn: Log = lambda text: None,
) -> DeployResult:
    """Deploy the finished run in `folder` and write `deploy.json` there.

    Raises
    ------
    InputError
        For a run, a topology, a device or an option that cannot be used.
    DeployError
        When a device is lost, or refuses its part.
    """
    run = load_run(workspace, folder)
    with planned_deployment(workspace, run, options, (progress, log, warn)) as (deployment, origins):
        document, responses = measure_deployment(
            deployment, run.pixels, run.labels, options.requests, progress, options.replan
        )
    document |= {"loopback": options.loopback, "simulated": _of_origin("simulated", origins)}
    document["published"] = _of_origin("published", origins)
    requests = [hop_timings(response, deployment.links) for response in responses]
    result, trips_s = read_result(folder), [response.round_trip_s for response in responses]
    judged = judge_deadline(
        result.target, result.derived.latency_s, requests, trips_s, document["latency"]["held"]
    )
    document = {"schema_version": document.pop("schema_version"), "deadline": asdict(judged), **document}
    _write(folder, document, requests)
    if not judged.emulated:
        spread = measure_spread([end_s(timings) for timings in requests], options.loopback)
        keep_spread(workspace, deployment.topology.name, spread)
    return DeployResult(
        document, folder / DEPLOYMENT_FILE, deployment.topology, document["simulated"], judged
    )


@contextmanager
def planned_deployment(
    workspace: Workspace, run: TrainedRun, options: DeployOptions, output: Output
) -> Iterator[tuple[Deployment, dict[str, str]]]:
    """Connect to the agents, plan and ship a run's model; give the deployment, and the origin of each U(.).

    Raises as `deploy_run`.
    """
    if options.topology is not None:
        run = over_topology(run, load_topology(options.topology, workspace.topologies))
    run = replace(run, topology=with_runtimes(run.topology, options.runtimes))
    _check_options(run, options)
    names = tuple(device.name for device in run.topology.devices)
    own = {device.name: device.table for device in run.topology.devices if device.table != "local"}
    emulate = own if options.emulate else {}
    with _leader(workspace, names, options.loopback, emulate) as leader, _replan_hint(run.topology, options):
        yield _plan_deployment(workspace, run, leader, options, output)


def _of_origin(origin: str, origins: Mapping[str, str]) -> list[str]:
    return [name for name, own in origins.items() if own == origin]


def _check_options(run: TrainedRun, options: DeployOptions) -> None:
    if options.emulate and not options.loopback:
        raise InputError(
            "--emulate is for --loopback: on a device of its own, start jmsnas agent --emulate DEVICE"
        )
    cuts, devices, layers = options.cuts, run.topology.main_path, len(run.space.main_path)
    if cuts is not None and (len(cuts) != len(devices) or cuts[-1] != layers):
        raise InputError(
            f"--cuts {','.join(map(str, cuts))}: expected {len(devices)} non-decreasing numbers, "
            f"the last {layers}, one for each of {', '.join(devices)}"
        )


def _write(folder: Path, document: dict[str, Any], requests: Sequence[Sequence[HopTiming]]) -> None:
    """Write the document with the timeline of the request of median T, and a trace of the last requests."""
    by_latency = sorted(requests, key=end_s)
    document["timeline"] = [asdict(timing) for timing in by_latency[len(by_latency) // 2]]
    write_json(folder / DEPLOYMENT_FILE, document)
    write_atomic(folder / TRACE_FILE, perfetto_tar(requests[-20:]))


def _plan_deployment(
    workspace: Workspace, run: TrainedRun, leader: Leader, options: DeployOptions, output: Output
) -> tuple[Deployment, dict[str, str]]:
    """Plan a deployment, with `replan` without the devices lost before or meanwhile.

    Returns the deployment, and the origin of each U(.) by device.
    """
    lost: list[str] = []
    for attempt in range(_TRIES):
        try:
            deployment, origins = _prepare(workspace, run, leader, options, output, lost)
            deployment.plan(None if lost else options.cuts)
            return deployment, origins
        except DeviceLostError as error:
            if not options.replan or attempt == _TRIES - 1:
                raise
            unreachable = unreachable_device(error, attempt + 1)
            topology, more = drop_lost_devices(leader, run.topology, output[1], unreachable)
            run, lost = replace(run, topology=topology), lost + more
    raise AssertionError  # the last attempt has returned or raised


def _prepare(
    workspace: Workspace,
    run: TrainedRun,
    leader: Leader,
    options: DeployOptions,
    output: Output,
    lost: Sequence[str],
) -> tuple[Deployment, dict[str, str]]:
    """Load U(.) of the devices' tables and runtimes, and export the model."""
    progress, log, warn = output
    infos = leader.describe()
    emulated = {name: info.emulate for name, info in infos.items() if info.emulate}
    tables = {**(dict.fromkeys(infos, "local") if options.loopback else {}), **emulated}
    run = replace(run, topology=with_tables(run.topology, tables))
    predictors, origins = load_calibrated_estimators(run.topology, run.space, workspace, warn, progress)
    torch = choose_torch_runtimes(run.topology, predictors, leader, infos, warn)
    emulation = Emulation(frozenset(emulated), options.emulate)
    cache = workspace.folder / "cache" / "onnx"
    deployment = prepare_deployment(run, leader, predictors, cache, log, emulation, torch, lost)
    return deployment, origins


@contextmanager
def _replan_hint(topology: Topology, options: DeployOptions) -> Iterator[None]:
    """Name the option `--replan` in the error of a lost device, where the others can continue without it."""
    try:
        yield
    except DeviceLostError as error:
        if options.replan:
            raise
        try:
            without_devices(topology, [error.device])
        except DeployError:
            raise error from None
        raise DeviceLostError(error.device, f"{error}. To continue without it: --replan") from None


@contextmanager
def _leader(
    workspace: Workspace, names: tuple[str, ...], loopback: bool, emulate: dict[str, str]
) -> Iterator[Leader]:
    """Connect to the agents of `devices.toml`, or to new ones on loopback."""
    with ExitStack() as stack:
        if loopback:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jmsnas-")))
            agents = stack.enter_context(loopback_agents(names, folder, emulate=emulate))
            certs, addresses = leader_certs(folder), {name: agent.address for name, agent in agents.items()}
        else:
            certs, addresses = workspace.certs / "leader", agents_for(names, workspace.devices_file)
        yield stack.enter_context(closing(Leader(certs, addresses)))
