"""`jmsnas deploy RUN`: send the parts, run images through, predicted beside measured."""

from typing import Annotated, Any

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import log, one_line_errors, print_json, progress_bar, warn, warn_simulated
from jmsnas.workspace import Workspace

_HELP = """Send a run's parts to its devices, run images through them, and print predicted beside measured.

The links are measured and the split is solved again with them. Each device runs jmsnas agent; devices.toml
says where. With --loopback all run on this machine, which then speaks for every device.

[bold]Examples[/bold]

  jmsnas deploy RUN                    on the devices of the run's network

  jmsnas deploy RUN --loopback         everything on this machine (profile it first)

  jmsnas deploy RUN --loopback --emulate   the same, held to the devices' and links' times

  jmsnas deploy RUN --runtime jetson=torch   serve a device's part by torch, CUDA where U(.) is of it

  jmsnas deploy RUN --replan           go on without a device that is lost

  jmsnas deploy RUN --calibrate        later predictions are corrected by what was measured

Next: jmsnas report RUN
"""


@app.command("deploy", help=_HELP)
@one_line_errors
def deploy_command(
    run: Annotated[str, typer.Argument(help="Name of a finished run, or its folder.")],
    loopback: Annotated[bool, typer.Option("--loopback", help="Agents on this machine.")] = False,
    emulate: Annotated[
        bool, typer.Option("--emulate", help="With --loopback: hold devices and links to their tables.")
    ] = False,
    cuts: Annotated[
        str | None, typer.Option("--cuts", help="A split of your own, as 2,4,9,12. Default: the best one.")
    ] = None,
    requests: Annotated[int, typer.Option("--requests", min=20, help="Images timed one by one.")] = 200,
    replan: Annotated[bool, typer.Option("--replan", help="Go on without a device that is lost.")] = False,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Keep what was learnt of U(.).")] = False,
    runtime: Annotated[
        list[str] | None,
        typer.Option("--runtime", help="onnxruntime or torch, for all; or for one, as jetson=torch."),
    ] = None,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, deploy, print."""
    from jmsnas.cli.deploy_output import print_deployment
    from jmsnas.deploy.deploy_run import DeployOptions, deploy_run, parse_cuts
    from jmsnas.deploy.leader.calibration import calibrate as keep_calibration
    from jmsnas.nas.run_result import find_run

    place = Workspace(folder)
    options = DeployOptions(
        loopback=loopback,
        cuts=parse_cuts(cuts) if cuts else None,
        requests=requests,
        replan=replan,
        emulate=emulate,
        runtimes=tuple(runtime or ()),
    )
    with progress_bar() as progress:
        found = deploy_run(place, find_run(place, run), options, progress, log, warn)
    warn_simulated(found.simulated)
    document: dict[str, Any] = found.document
    if calibrate:
        document["calibration"] = keep_calibration(document, found.topology, place)
    if as_json:
        print_json(document)
        return
    print_deployment(document)
    print(f"\nWritten: {found.path}\nNext: jmsnas report {document['run']}")
