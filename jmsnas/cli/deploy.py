"""`jmsnas deploy`: deploy a run's model on devices, and compare predicted with measured latency."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from jmsnas.cli import app
from jmsnas.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    LoopbackOption,
    ReplanOption,
    RunArgument,
    RunTopologyOption,
    WorkspaceOption,
    options_from,
)
from jmsnas.cli.terminal import (
    log,
    one_line_errors,
    print_json,
    print_line,
    progress_bar,
    warn,
    warn_simulated,
)
from jmsnas.cli.topology_warnings import warn_of_figures
from jmsnas.errors import InputError
from jmsnas.workspace import Workspace

_HELP = """Deploy the model of a run, time images through it, and compare predicted with measured latency.

The links are measured, and the split is optimised again for them. Each device runs jmsnas agent at its
address in devices.toml. With --loopback all agents run on this machine.

[bold]Examples[/bold]

  jmsnas deploy RUN                    on the devices of the run's topology

  jmsnas deploy RUN --topology lab.toml   over other devices and links, with the split of least T there

  jmsnas deploy RUN --loopback         everything on this machine (profile it first)

  jmsnas deploy RUN --loopback --emulate   the same, with the latencies of the devices and links emulated

  jmsnas deploy RUN --runtime jetson=torch   run a device's part in torch, on CUDA if U(.) is of CUDA

  jmsnas deploy RUN --replan           continue without a lost device

  jmsnas deploy RUN --check-deadline   exit with code 1 where the measured T exceeds T_const

  jmsnas deploy RUN --calibrate        correct later predictions by the measurements

Next: jmsnas report RUN
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployArguments:
    """Command-line arguments of `jmsnas deploy`."""

    run: RunArgument
    topology: RunTopologyOption = None
    loopback: LoopbackOption = False
    emulate: Annotated[
        bool, typer.Option("--emulate", help="With --loopback: emulate the latencies of devices and links.")
    ] = False
    cuts: Annotated[str | None, typer.Option(help="A given split, as 2,4,9,12. Default: the best one.")] = (
        None
    )
    requests: Annotated[int, typer.Option(min=20, help="Number of images timed one by one.")] = 200
    replan: ReplanOption = False
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Save the correction factors of U(.).")] = (
        False
    )
    check_deadline: Annotated[
        bool, typer.Option("--check-deadline", help="Exit with code 1 where T misses T_const.")
    ] = False
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="onnxruntime or torch for all devices, or for one, as jetson=torch."),
    ] = None
    folder: WorkspaceOption = DEFAULT_WORKSPACE
    as_json: JsonOption = False


@app.command("deploy", help=_HELP)
@one_line_errors
@options_from(DeployArguments)
def deploy_command(args: DeployArguments) -> None:
    """Parse, deploy, print."""
    from jmsnas.nas.run_result import find_run

    cuts = _parse_cuts(args.cuts) if args.cuts else None
    workspace = Workspace(args.folder)
    run_folder = find_run(workspace, args.run)
    if not args.loopback:
        check_devices(workspace, run_folder, args.topology)

    # Imports of torch take seconds.
    from jmsnas.cli.output.deploy import print_deployment
    from jmsnas.deploy.deploy_run import DeployOptions, deploy_run
    from jmsnas.deploy.leader.calibration import calibrate

    options = DeployOptions(
        loopback=args.loopback,
        cuts=cuts,
        requests=args.requests,
        replan=args.replan,
        emulate=args.emulate,
        runtimes=tuple(args.runtime or ()),
        topology=args.topology,
    )
    with progress_bar() as progress:
        deployed = deploy_run(workspace, run_folder, options, progress, log, warn)
    warn_simulated(deployed.simulated)
    document: dict[str, Any] = deployed.document
    if args.calibrate:
        document["calibration"] = calibrate(document, deployed.topology, workspace)
    if args.as_json:
        print_json(document)
    else:
        print_deployment(document, deployed.deadline)
        print_line("", f"Written: {deployed.path}", f"Next: jmsnas report {document['run']}")
    if args.check_deadline and not deployed.deadline.met:
        log(f"jmsnas: {deployed.deadline.verdict}")
        raise typer.Exit(1)


def check_devices(workspace: Workspace, run_folder: Path, topology: str | None) -> None:
    """Check that `devices.toml` has an agent of each device. Raises DeviceError, TopologyError, RunError."""
    from jmsnas.deploy.transport.devices_file import agents_for
    from jmsnas.nas.run_result import read_result
    from jmsnas.topology import load_topology

    own = load_topology(topology, workspace.topologies) if topology else read_result(run_folder).topology
    agents_for(tuple(device.name for device in own.devices), workspace.devices_file)
    warn_of_figures(workspace, own.devices, own.links)


def _parse_cuts(text: str) -> tuple[int, ...]:
    """Parse the cuts of a split, as in `2,4,9,12`. Raises InputError."""
    try:
        cuts = tuple(int(number) for number in text.split(","))
    except ValueError:
        cuts = ()
    if not cuts or list(cuts) != sorted(cuts) or cuts[0] < 0:
        raise InputError(f"--cuts {text}: expected non-decreasing whole numbers, as in 2,4,9,12")
    return cuts
