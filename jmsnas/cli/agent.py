"""`jmsnas agent`: a device's one process."""

from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.terminal import one_line_errors

_HELP = """Serve parts on this device, until Ctrl-C. On a small board jmsnas-agent does the same with less.

[bold]Examples[/bold]

  jmsnas agent --certs pi4 --listen 0.0.0.0:7070     with mutual TLS; certs from jmsnas certs --device pi4

  jmsnas agent --certs pi4                           on loopback alone
"""


@app.command("agent", help=_HELP)
@one_line_errors
def agent_command(
    certs: Annotated[Path, typer.Option("--certs", help="This device's folder from jmsnas certs.")],
    store: Annotated[Path, typer.Option("--store", help="Where parts are kept.")] = Path("jmsnas-agent"),
    listen: Annotated[str, typer.Option("--listen", help="ADDRESS:PORT.")] = "127.0.0.1:7070",
    emulate: Annotated[str, typer.Option("--emulate", help="Answer no sooner than DEVICE would.")] = "",
    plain: Annotated[bool, typer.Option("--plain", help="No TLS; on loopback alone.")] = False,
) -> None:
    """Parse and serve."""
    from jmsnas.deploy.agent.agent import AgentSettings, run

    raise typer.Exit(run(AgentSettings(certs, store, listen, emulate, plain)))
