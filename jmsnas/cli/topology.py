"""`jmsnas topology`: measure the devices and links of a topology, and show it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jmsnas.cli import CommandGroup, app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import one_line_errors, print_json, print_line
from jmsnas.workspace import Workspace

if TYPE_CHECKING:
    from jmsnas.topology import Topology

topology_app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="Measure and show topologies: devices and the links between them.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
app.add_typer(topology_app, name="topology")

_SHOW = """Show the devices and links of a topology with their figures, and draw it as SVG beside its file.

[bold]Examples[/bold]

  jmsnas topology show lab         WORKSPACE/topologies/lab.toml, drawn as lab.svg

  jmsnas topology show chain --json

Next: jmsnas profile --topology NAME
"""


@topology_app.command("show", help=_SHOW)
@one_line_errors
def show_command(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Name, or a .toml file.")],
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, load, draw, print."""
    from jmsnas.files import write_atomic
    from jmsnas.report.plot_style import svg
    from jmsnas.report.topology_plot import draw_topology
    from jmsnas.topology import load_topology

    workspace = Workspace(folder)
    topology = load_topology(name, workspace.topologies)
    path = Path(name) if name.endswith(".toml") else workspace.topologies / f"{name}.toml"
    picture = path.with_suffix(".svg")
    write_atomic(picture, svg(draw_topology(topology)))
    _print_topology(workspace, topology, picture, as_json)


def _print_topology(workspace: Workspace, topology: "Topology", picture: Path, as_json: bool) -> None:
    from datetime import UTC, datetime

    from jmsnas.cli.devices import describe_devices
    from jmsnas.cli.output.topology import print_topology, topology_document
    from jmsnas.cli.topology_warnings import warn_of_figures

    now = datetime.now(UTC)
    tables = {device["device"]: device["kind"] for device in describe_devices(workspace, now)["devices"]}
    document = topology_document(topology, tables, now)
    if as_json:
        print_json({**document, "picture": str(picture)})
    else:
        print_topology(topology, document)
        print_line("", f"Picture: {picture}")
    warn_of_figures(workspace, topology.devices, topology.links)
