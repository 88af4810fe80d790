"""`jmsnas report`: one HTML page about a finished run, and its pictures as PNG files."""

from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import one_line_errors, print_json, progress_bar
from jmsnas.workspace import Workspace

_HELP = """Write report.html and PNG pictures into the folder of a finished run.

The page says what was found, what was measured and what is SIMULATED. It is one file that can be mailed.

[bold]Examples[/bold]

  jmsnas report                                the run that ended last

  jmsnas report first second                   two runs of the workspace, by name

  jmsnas report elsewhere/runs/first           a folder

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
    """Parse, write each page, say where it lies."""
    from jmsnas.nas.run_result import find_run, newest_run
    from jmsnas.report.run_page import write_report

    place = Workspace(folder)
    found = [find_run(place, text) for text in runs or ()] or [newest_run(place)]
    pages = []
    for run in found:
        with progress_bar() as progress:
            pages.append(write_report(place, run, progress))
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
        print(f"Report: {page}")
