"""`jmsnas agent`: serve model parts on a device."""

from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.terminal import one_line_errors

_HELP = """Serve model parts on this device until Ctrl-C. On small boards use jmsnas-agent, which loads less.

[bold]Examples[/bold]

  jmsnas agent --certs pi4 --listen 0.0.0.0:7070     with mutual TLS; first run jmsnas certs --device pi4

  jmsnas agent --certs pi4                           on loopback only
"""


@app.command("agent", help=_HELP)
@one_line_errors
def agent_command(
    certs: Annotated[Path, typer.Option(help="This device's folder from jmsnas certs.")],
    store: Annotated[Path, typer.Option(help="Folder of received parts.")] = Path("jmsnas-agent"),
    listen: Annotated[str, typer.Option(help="ADDRESS:PORT.")] = "127.0.0.1:7070",
    emulate: Annotated[str, typer.Option(help="Delay answers to the latencies of DEVICE.")] = "",
    plain: Annotated[bool, typer.Option("--plain", help="No TLS; loopback only.")] = False,
) -> None:
    """Parse and serve."""
    from jmsnas.deploy.agent.agent import AgentSettings, run

    raise typer.Exit(run(AgentSettings(certs, store, listen, emulate, plain)))
