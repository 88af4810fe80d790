"""`jmsnas serve`: serve the model of a run over HTTP, by the devices of a topology."""

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from jmsnas.cli import app
from jmsnas.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    LoopbackOption,
    ReplanOption,
    RunArgument,
    RunTopologyOption,
    WorkspaceOption,
    options_from,
)
from jmsnas.cli.terminal import (
    log,
    one_line_errors,
    print_json,
    print_line,
    progress_bar,
    warn,
    warn_simulated,
)
from jmsnas.errors import InputError
from jmsnas.units import format_duration
from jmsnas.workspace import Workspace

_PACKAGES = ("starlette", "uvicorn", "h11", "prometheus_client")
_HELP = """Serve the model of a run over HTTP until Ctrl-C, by the Open Inference Protocol (V2).

The split is planned and its parts are shipped as by jmsnas deploy. Requests are tensors, as of
tritonclient, or JPEG and PNG files; /metrics has the measured terms of T for Prometheus.

[bold]Examples[/bold]

  jmsnas serve RUN                     on the devices of the run's topology

  jmsnas serve RUN --loopback          agents on this machine

  jmsnas serve RUN --replan            continue without a lost device

  jmsnas serve RUN --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --token-file token

  curl -H 'Content-Type: image/png' --data-binary @image.png localhost:8000/v2/models/RUN/infer
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeArguments:
    """Command-line arguments of `jmsnas serve`."""

    run: RunArgument
    topology: RunTopologyOption = None
    loopback: LoopbackOption = False
    replan: ReplanOption = False
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback with TLS and token.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for a free one.")] = 8000
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None
    token_file: Annotated[
        Path | None, typer.Option(help="File of the bearer token. Default: the variable JMSNAS_TOKEN.")
    ] = None
    queue: Annotated[int, typer.Option(min=0, max=4096, help="Requests that may wait for others.")] = 64
    folder: WorkspaceOption = DEFAULT_WORKSPACE
    as_json: JsonOption = False


@app.command("serve", help=_HELP)
@one_line_errors
@options_from(ServeArguments)
def serve_command(args: ServeArguments) -> None:
    """Parse, serve, print the address."""
    from jmsnas.cli.deploy import check_devices
    from jmsnas.nas.run_result import find_run

    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(f"jmsnas serve needs {', '.join(missing)}: pip install 'jmsnas[serve]'")
    workspace = Workspace(args.folder)
    run_folder = find_run(workspace, args.run)
    if not args.loopback:
        check_devices(workspace, run_folder, args.topology)

    # Imports of torch take seconds.
    from jmsnas.deploy.deploy_run import DeployOptions
    from jmsnas.deploy.serve.http_server import HttpOptions, read_token
    from jmsnas.deploy.serve.serve_run import serve_run

    token = read_token(args.token_file) if args.token_file else os.environ.get("JMSNAS_TOKEN", "")
    http = HttpOptions(args.host, args.port, args.tls_cert, args.tls_key, token, args.queue)
    deploy = DeployOptions(args.loopback, replan=args.replan, topology=args.topology)
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar())

        def ready(document: dict[str, Any]) -> None:
            stack.close()  # the bar ends before the server begins
            _print_ready(document, args.as_json)

        serve_run(workspace, run_folder, deploy, http, (progress, log, warn), ready)


def _print_ready(document: dict[str, Any], as_json: bool) -> None:
    origins = document["origins"]
    warn_simulated([name for name, origin in origins.items() if origin == "simulated"])
    if as_json:
        print_json(document)
    else:
        _print_served(document)
    sys.stdout.flush()


def _print_served(document: dict[str, Any]) -> None:
    model, url = document["model"], document["url"]
    print_line(f"Model {model} over topology {document['topology']}, plan {document['epoch']}:")
    for piece in document["pieces"]:
        what = f"layers {piece['layers']}" if piece["layers"] else "(relay)"
        print_line(f"  {piece['device']:<10} {what}")
    if document["lost"]:
        print_line(f"  lost: {', '.join(document['lost'])}; the plan above is without it")
    print_line(
        f"T {format_duration(document['predicted_s'])} predicted; measured: {url}/metrics",
        f"Serving {url}/v2/models/{model}/infer until Ctrl-C",
    )
