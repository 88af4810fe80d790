"""`jmsnas certs`: create a certificate authority (CA) and a certificate per device, for mutual TLS."""

from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import one_line_errors, print_json, print_line
from jmsnas.workspace import Workspace

_HELP = """Create a CA and a certificate per device, so that devices authenticate each other (mutual TLS).

The CA and the leader's keys are created once and kept. A device keeps its key and fingerprint; its
certificate is renewed by every call.

[bold]Examples[/bold]

  jmsnas certs --device pi4 --device jetson       writes WORKSPACE/certs

Next: copy certs/pi4 to the Pi and start jmsnas agent --certs pi4 there
"""


@app.command("certs", help=_HELP)
@one_line_errors
def certs_command(
    device: Annotated[list[str], typer.Option(help="Name of a device; may be repeated.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days of validity.")] = 365,
    out: Annotated[Path | None, typer.Option(help="Output folder. Default: WORKSPACE/certs.")] = None,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, create, print."""
    from jmsnas.deploy.transport.certificates import make_certificates
    from jmsnas.deploy.transport.identity import fingerprint

    certs = out or Workspace(folder).certs
    made = make_certificates(certs, tuple(dict.fromkeys(device)), days)
    prints = {path.name: fingerprint((path / "device.pem").read_bytes()) for path in made}
    if as_json:
        print_json({"folder": str(certs), "days": days, "fingerprints": prints})
        return
    print_line(f"CA and leader's keys: {certs}. Add these entries to devices.toml, with addresses:", "")
    for name, digits in prints.items():
        print_line("[[device]]", f'name = "{name}"', 'address = "HOST:7070"', f'fingerprint = "{digits}"', "")
    print_line(f"Copy {certs}/DEVICE to each device, and run there: jmsnas agent --certs DEVICE")
