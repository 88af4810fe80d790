"""`jmsnas compare`: compare searched models with MobileNet V1, V2 and V3 under other split methods."""

from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import log, one_line_errors, print_json, print_line, progress_bar
from jmsnas.workspace import Workspace

_HELP = """Compare searched models with MobileNet V1, V2 and V3: accuracy, T, bytes, parameters, MACs, energy.

The paper's Fig. 5 (accuracy by epoch and target) and Fig. 6 (accuracy against latency) on your own
devices, a table as CSV, and one HTML page. Each MobileNet is split by HiveMind, split by Neurosurgeon, or
runs on the device only; each model searched on a chain also runs on the cloud only.

[bold]Examples[/bold]

  jmsnas compare                          finished runs with the data set, epochs and seed of the newest

  jmsnas compare front-1 front-2 mesh-1   these runs

  jmsnas compare --topology lab.toml      runs searched for this topology; MobileNets over it too

  jmsnas compare --no-train               leave the accuracy of untrained MobileNets empty

Before: jmsnas search --front 3, and the same with --topology mesh
"""


@app.command("compare", help=_HELP)
@one_line_errors
def compare_command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Names or folders of runs. Default: those like the newest."),
    ] = None,
    topology: Annotated[
        str | None,
        typer.Option("--topology", help="Compare runs of one topology only: a name or a .toml file."),
    ] = None,
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="Train the MobileNets that are not trained yet.")
    ] = True,
    data_dir: Annotated[Path, typer.Option(help="Folder of the images.")] = Path("data"),
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page. Default: compare in the workspace.")
    ] = None,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, train missing MobileNets, write page and table, print."""
    from dataclasses import asdict

    from jmsnas.cli.output.compare import comparison_entries, comparison_lines, select_runs
    from jmsnas.cli.output.search import uncounted_lines
    from jmsnas.report.comparison_page import write_comparison

    workspace = Workspace(folder)
    selected = select_runs(workspace, runs or (), topology)
    with progress_bar() as progress:
        entries = comparison_entries(workspace, selected, train, data_dir, progress, log)
    page = write_comparison(selected, entries, out or workspace.folder / "compare")
    if as_json:
        print_json({"page": str(page), "entries": [asdict(entry) for entry in entries]})
        return
    for line in [*comparison_lines(entries), *uncounted_lines(run.result.topology for run in selected)]:
        print_line(line)
    print_line("", f"Page: {page}")
