"""`jmsnas topology`: measure the devices and links of a topology, and show it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jmsnas.cli import CommandGroup, app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import one_line_errors, print_json, print_line, progress_bar, warn
from jmsnas.errors import InputError
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

_COLLECT = """Measure the devices and links of the agents in devices.toml into topologies/NAME.toml.

The devices form a chain in the order of devices.toml, with --tree a mesh. Each link is measured at several
sizes both ways. Where the file exists, its devices and links are measured again, and all else in it is kept:
order, policy, roles, limits, wire and comments.

[bold]Examples[/bold]

  jmsnas topology collect lab

  jmsnas topology collect lab --tree laptop=mbs1,mbs2     laptop sends to both, the device after it joins

Before: jmsnas certs --address NAME=HOST:PORT, and jmsnas-agent on each device
"""
_SHOW = """Show the devices and links of a topology with their figures, and draw it as SVG beside its file.

[bold]Examples[/bold]

  jmsnas topology show lab         WORKSPACE/topologies/lab.toml, drawn as lab.svg

  jmsnas topology show chain --json

Next: jmsnas profile --topology NAME
"""


@topology_app.command("collect", help=_COLLECT)
@one_line_errors
def collect_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the topology.")],
    tree: Annotated[
        str | None, typer.Option(metavar="ROOT=CHILD,CHILD", help="A mesh: a device and its children.")
    ] = None,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, measure, draw, print."""
    from jmsnas.deploy.collect_topology import NO_TREE, collect_topology

    workspace = Workspace(folder)
    with progress_bar() as progress:
        topology, path = collect_topology(
            workspace, name, _parse_tree(tree) if tree else NO_TREE, progress, warn
        )
    _draw_and_print(workspace, topology, path, as_json)
    if not as_json:
        print_line(f"Written: {path}", f"Next: jmsnas profile --topology {name}")


def _parse_tree(text: str) -> tuple[str, tuple[str, ...]]:
    """Parse ROOT=CHILD,CHILD. Raises InputError for another form."""
    root, equals, children = text.partition("=")
    names = tuple(children.split(","))
    if not (root and equals and all(names)):
        raise InputError(f"--tree {text}: expected ROOT=CHILD,CHILD, as in laptop=mbs1,mbs2")
    return root, names


@topology_app.command("show", help=_SHOW)
@one_line_errors
def show_command(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Name, or a .toml file.")],
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, load, draw, print."""
    from jmsnas.topology import load_topology

    workspace = Workspace(folder)
    topology = load_topology(name, workspace.topologies)
    path = Path(name) if name.endswith(".toml") else workspace.topologies / f"{name}.toml"
    _draw_and_print(workspace, topology, path, as_json)


def _draw_and_print(workspace: Workspace, topology: "Topology", path: Path, as_json: bool) -> None:
    """Draw a topology beside its file, print its figures, and warn of old ones."""
    from datetime import UTC, datetime

    from jmsnas.cli.devices import describe_devices
    from jmsnas.cli.output.topology import print_topology, topology_document
    from jmsnas.cli.topology_warnings import warn_of_figures
    from jmsnas.files import write_atomic
    from jmsnas.report.plot_style import svg
    from jmsnas.report.topology_plot import draw_topology

    picture = path.with_suffix(".svg")
    write_atomic(picture, svg(draw_topology(topology)))
    now = datetime.now(UTC)
    tables = {device["device"]: device["kind"] for device in describe_devices(workspace, now)["devices"]}
    document = topology_document(topology, tables, now)
    if as_json:
        print_json({**document, "picture": str(picture)})
    else:
        print_topology(topology, document)
        print_line("", f"Picture: {picture}")
    warn_of_figures(workspace, topology.devices, topology.links)
