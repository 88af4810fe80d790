"""`jmsnas compare`: searched networks beside MobileNet V1, V2 and V3 under other split methods."""

from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import log, one_line_errors, print_json, progress_bar
from jmsnas.workspace import Workspace

_HELP = """Put searched networks beside MobileNet V1, V2 and V3: accuracy, T, bytes, parameters, MACs, energy.

The paper's Fig. 5 (accuracy by epoch and target) and Fig. 6 (accuracy against latency) on your own
devices, a table as CSV, and one HTML page. Each MobileNet is cut by HiveMind, by Neurosurgeon, or runs on the
device only; each searched chain network is sent whole to the cloud, too.

[bold]Examples[/bold]

  jmsnas compare                          all finished runs of the newest run's data set

  jmsnas compare front-1 front-2 mesh-1   these

  jmsnas compare --no-train               leave accuracies empty that nobody has trained yet

Before: jmsnas search --front 3, and the same with --topology mesh
"""


@app.command("compare", help=_HELP)
@one_line_errors
def compare_command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Names or folders of runs. Default: all alike the newest."),
    ] = None,
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="Train the MobileNets that were not trained yet.")
    ] = True,
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Where the images lie or go.")] = Path("data"),
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the page. Default: compare/ of the workspace.")
    ] = None,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, train what is missing, write page and table, print."""
    from dataclasses import asdict

    from jmsnas.cli.compare_output import comparison_entries, select_runs, table_lines
    from jmsnas.report.comparison_page import write_comparison

    place = Workspace(folder)
    found = select_runs(place, runs or ())
    with progress_bar() as progress:
        entries = comparison_entries(place, found, train, data_dir, progress, log)
    page = write_comparison(found, entries, out or place.folder / "compare")
    if as_json:
        print_json({"page": str(page), "entries": [asdict(entry) for entry in entries]})
        return
    for line in table_lines(entries):
        print(line)
    print(f"\nPage: {page}")
