"""`jmsnas certs`: create a certificate authority (CA) and a certificate per device, for mutual TLS."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import one_line_errors, print_json, print_line
from jmsnas.errors import InputError
from jmsnas.workspace import Workspace

_HELP = """Create a CA and a certificate per device, so that devices authenticate each other (mutual TLS).

The CA and the leader's keys are created once and kept. A device keeps its key and fingerprint; its
certificate is renewed by every call.

[bold]Examples[/bold]

  jmsnas certs --address pi4=10.0.0.1:7070        also writes the entry of pi4 in WORKSPACE/devices.toml

  jmsnas certs --device pi4 --device jetson       writes WORKSPACE/certs only

Next: copy certs/pi4 to the Pi and start jmsnas-agent --certs pi4 --listen 10.0.0.1:7070 there
"""


@app.command("certs", help=_HELP)
@one_line_errors
def certs_command(
    device: Annotated[list[str] | None, typer.Option(help="Name of a device; may be repeated.")] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=HOST:PORT",
            help="A device and the address of its agent, for WORKSPACE/devices.toml; may be repeated.",
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days of validity.")] = 365,
    out: Annotated[Path | None, typer.Option(help="Output folder. Default: WORKSPACE/certs.")] = None,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, create, print."""
    from dataclasses import replace

    from jmsnas.deploy.transport.certificates import make_certificates
    from jmsnas.deploy.transport.devices_file import (
        AgentAddress,
        edited_devices_file,
        write_devices_file,
    )
    from jmsnas.deploy.transport.identity import fingerprint

    workspace = Workspace(folder)
    addresses = _parse_addresses(address or [])
    names = tuple(dict.fromkeys([*(device or []), *addresses]))
    if not names:
        raise InputError("certs needs a device: expected --address NAME=HOST:PORT or --device NAME")
    if addresses:  # refused before a file is written
        agents = {name: AgentAddress(name, where, "0" * 64) for name, where in addresses.items()}
        edited_devices_file(workspace.devices_file, agents)
    certs = out or workspace.certs
    made = make_certificates(certs, names, days)
    prints = {path.name: fingerprint((path / "device.pem").read_bytes()) for path in made}
    if addresses:
        agents = {name: replace(agent, fingerprint=prints[name]) for name, agent in agents.items()}
        write_devices_file(workspace.devices_file, agents)
    if as_json:
        print_json({"folder": str(certs), "days": days, "fingerprints": prints, "addresses": addresses})
        return
    print_line(f"CA and leader's keys: {certs}")
    if addresses:
        print_line(f"Addresses of {', '.join(addresses)}: {workspace.devices_file}")
    for name in names:
        where = addresses.get(name, "0.0.0.0:7070")
        print_line(
            f"Copy {certs / name} to {name}, and run there: jmsnas-agent --certs {name} --listen {where}"
        )
    for name, digits in prints.items():
        if name not in addresses:
            print_line(f"{name}: fingerprint {digits}; run jmsnas certs --address {name}=HOST:7070 too")


def _parse_addresses(given: Sequence[str]) -> dict[str, str]:
    """Parse NAME=HOST:PORT. Raises InputError for another form, or a device that is given twice."""
    addresses: dict[str, str] = {}
    for text in given:
        name, equals, where = text.partition("=")
        if not (name and equals and where):
            raise InputError(f"--address {text}: expected NAME=HOST:PORT, as in pi4=192.168.1.20:7070")
        if name in addresses:
            raise InputError(f"--address has {name} twice: expected each device once")
        addresses[name] = where
    return addresses
