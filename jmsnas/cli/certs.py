"""`jmsnas certs`: a small CA, and a certificate a device."""

from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import one_line_errors, print_json
from jmsnas.workspace import Workspace

_HELP = """Make a small CA and a certificate a device, so that devices know each other (mutual TLS).

The CA and the leader's keys are made the first time and kept. A device keeps its key, and so its fingerprint;
its certificate is new each time.

[bold]Examples[/bold]

  jmsnas certs --device pi4 --device jetson       into WORKSPACE/certs

Next: copy certs/pi4 to the Pi and start jmsnas agent --certs pi4 there
"""


@app.command("certs", help=_HELP)
@one_line_errors
def certs_command(
    device: Annotated[list[str], typer.Option("--device", help="Name of a device; may be repeated.")],
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How long they are good.")] = 365,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for them. Default: WORKSPACE/certs.")
    ] = None,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, make, print."""
    from jmsnas.deploy.transport.certificates import make_certificates
    from jmsnas.deploy.transport.identity import fingerprint

    place = out or Workspace(folder).certs
    made = make_certificates(place, tuple(dict.fromkeys(device)), days)
    prints = {own.name: fingerprint((own / "device.pem").read_bytes()) for own in made}
    if as_json:
        print_json({"folder": str(place), "days": days, "fingerprints": prints})
        return
    print(f"CA and leader's keys: {place}. What follows goes to devices.toml, with their addresses.\n")
    for name, digits in prints.items():
        print(f'[[device]]\nname = "{name}"\naddress = "HOST:7070"\nfingerprint = "{digits}"\n')
    print(f"Copy {place}/DEVICE to each device, then start there: jmsnas agent --certs DEVICE")
