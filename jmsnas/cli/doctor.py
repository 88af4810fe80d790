"""`jmsnas doctor`: check libraries, processor, clock, certificates and agents, and suggest fixes."""

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import one_line_errors, print_json, print_line
from jmsnas.workspace import Workspace

_HELP = """Check this host: libraries, processor, clock, governor, certificates, agents of devices.toml.

Each library is imported in a separate process, so that a crash is attributed to it. Exit code 1 if a check
fails.
"""


@app.command("doctor", help=_HELP)
@one_line_errors
def doctor_command(folder: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Run the checks and print the findings."""
    from dataclasses import asdict

    from jmsnas.deploy.doctor import check_host

    found = check_host(Workspace(folder))
    if as_json:
        print_json({"findings": [asdict(finding) for finding in found]})
    else:
        marks = {"ok": "ok     ", "note": "note   ", "trouble": "TROUBLE"}
        for finding in found:
            print_line(f"{marks[finding.level]} {finding.what:<22} {finding.words}")
            if finding.remedy:
                print_line(f"{'':>31}run:  {finding.remedy}")
    if any(finding.level == "trouble" for finding in found):
        raise typer.Exit(1)
