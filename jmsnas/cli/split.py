"""`jmsnas split`: the best split of a fixed network, by any method, and what would change it."""

from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.terminal import (
    DEFAULT_WORKSPACE,
    JsonOption,
    WorkspaceOption,
    log,
    one_line_errors,
    print_json,
    progress_bar,
    warn,
    workspace,
)

_HELP = """Find the best split of a fixed network over devices and links: proven, in milliseconds.

NETWORK is a finished run, mobilenet_v1, _v2, _v3_small or _v3_large, any classifier of torchvision by name,
or a file ending in .onnx. Or give a table of your own times and sizes with --costs.

[bold]Examples[/bold]

  jmsnas split mobilenet_v2                             over the paper's chain of devices (SIMULATED)

  jmsnas split resnet50 --policy relay --explain        what T is made of, and what would make it shorter

  jmsnas split --costs mine.toml --input float32        your own table (docs/split.md)

  jmsnas split mobilenet_v2 --policy relay --sweep rate=1..200Mbit/s      plans by link rate

  jmsnas split first --method hivemind                  a run's network, as another method cuts it

Next: jmsnas split NETWORK --pictures FOLDER
"""


@app.command("split", help=_HELP)
@one_line_errors
def split_command(
    network: Annotated[str | None, typer.Argument(help="Run, network by name, or .onnx file.")] = None,
    costs: Annotated[
        Path | None, typer.Option("--costs", help="Table of given times and sizes: .toml, .json or .csv.")
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            "--network", help="chain, desk, mesh, or a .toml file. Default: the run's own, else chain."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method", help="optimal, hivemind, neurosurgeon, dads, hermes, cloud, device, or all."
        ),
    ] = "optimal",
    objective: Annotated[str, typer.Option("--objective", help="latency, throughput or energy.")] = "latency",
    policy: Annotated[
        str | None, typer.Option("--policy", help="strict, relay or stop-early. Default: the network's.")
    ] = None,
    min_layers: Annotated[
        int, typer.Option("--min-layers", help="Layers that stay on the first device at least.")
    ] = 0,
    encoding: Annotated[
        str | None, typer.Option("--input", help="uint8, float32 or jpeg. Default: the network's.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option("--image", help="Photograph whose JPEG bytes count. Default: two known ones."),
    ] = None,
    size: Annotated[int, typer.Option("--size", help="Pixels a side of the input.")] = 224,
    width: Annotated[float, typer.Option("--width", help="Multiplier of a MobileNet's widths.")] = 1.0,
    energy_limit: Annotated[
        str | None, typer.Option("--energy-limit", help="Joules an image may cost, as 0.5J.")
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", help="What T should be, as 100ms; --explain says what it takes."),
    ] = None,
    sweep: Annotated[
        str | None, typer.Option("--sweep", help="Plans over a range, as rate=1..200Mbit/s.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Terms, bottleneck, what must change.")] = False,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Draw the trade-offs into this folder.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", help="Seconds to think about a network with branches.")
    ] = 30.0,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, split, print."""
    from jmsnas.cli.split_input import SplitArguments, given_problem, split_requests
    from jmsnas.cli.split_output import draw_trade_offs, finite_json, print_split, split_document

    asked = SplitArguments(
        network, costs, devices, method, objective, policy, min_layers, encoding, image, size, width
    )
    with progress_bar() as progress:
        found, own = given_problem(asked, workspace(folder), progress)
    for name in found.simulated:
        warn(f"SIMULATED: {name} was not measured; its latencies are a roofline of published figures.")
    for name in found.published:
        warn(f"PUBLISHED: {name} was not measured here; U(.) of a table of others speaks for it.")
    questions = split_requests(asked, own, energy_limit, time_limit)
    document = split_document(found, questions, deadline, sweep, explain)
    if pictures:
        for path in draw_trade_offs(found, questions[0], pictures):
            log(f"drawn: {path}")
    print_json(finite_json(document)) if as_json else print_split(document)
