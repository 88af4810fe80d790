"""`jmsnas doctor`: check this host and its agents, and suggest remedies."""

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import one_line_errors, print_json
from jmsnas.workspace import Workspace

_HELP = """Look at this host: libraries, processor, clock, governor, certificates, agents of devices.toml.

Each library is imported in a process of its own, so that one that crashes is named. Exit code 1 when
something does not work.
"""


@app.command("doctor", help=_HELP)
@one_line_errors
def doctor_command(folder: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Examine and print."""
    from dataclasses import asdict

    from jmsnas.deploy.doctor import check_host

    found = check_host(Workspace(folder))
    if as_json:
        print_json({"findings": [asdict(finding) for finding in found]})
    else:
        marks = {"ok": "ok     ", "note": "note   ", "trouble": "TROUBLE"}
        for finding in found:
            print(f"{marks[finding.level]} {finding.what:<22} {finding.words}")
            if finding.remedy:
                print(f"{'':>31}type: {finding.remedy}")
    if any(finding.level == "trouble" for finding in found):
        raise typer.Exit(1)
