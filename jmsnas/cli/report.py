"""`jmsnas report`: write an HTML report of a finished run, and its plots as PNG files."""

from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import one_line_errors, print_json, print_line, progress_bar
from jmsnas.workspace import Workspace

_HELP = """Write report.html and PNG plots into the folder of a finished run.

The page shows the results, and what is measured and SIMULATED. It is one self-contained file.

[bold]Examples[/bold]

  jmsnas report                                the newest run

  jmsnas report first second                   two runs, by name

  jmsnas report elsewhere/runs/first           a run's folder

Then open report.html in a browser.
"""


@app.command("report", help=_HELP)
@one_line_errors
def report_command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Names or folders of runs. Default: the newest."),
    ] = None,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, write each page, print its path."""
    from jmsnas.nas.run_result import find_run, newest_run
    from jmsnas.report.run_page import write_report

    workspace = Workspace(folder)
    found = [find_run(workspace, text) for text in runs or ()] or [newest_run(workspace)]
    pages = []
    for run in found:
        with progress_bar() as progress:
            pages.append(write_report(workspace, run, progress))
    if as_json:
        documents = [
            {
                "run": str(page.parent),
                "page": str(page),
                "pictures": sorted(map(str, page.parent.glob("*.png"))),
            }
            for page in pages
        ]
        print_json({"reports": documents})
        return
    for page in pages:
        print_line(f"Report: {page}")
