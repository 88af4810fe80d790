"""`jmsnas split`: find the best split of a model over a topology, and explain it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, PolicyOption, WorkspaceOption, options_from
from jmsnas.cli.terminal import log, one_line_errors, print_json, progress_bar, warn
from jmsnas.workspace import Workspace

_HELP = """Find the best split of a model over devices and links, proven optimal, in milliseconds.

MODEL is a finished run, mobilenet_v1, _v2, _v3_small or _v3_large, any classifier of torchvision by name,
or a file ending in .onnx. Or give a table of your own latencies and sizes with --costs.

[bold]Examples[/bold]

  jmsnas split mobilenet_v2 --topology chain            over the paper's chain of devices (SIMULATED)

  jmsnas split resnet50 --policy relay --explain        the terms of T, and changes that would reduce it

  jmsnas split --costs mine.toml --input float32        your own table (docs/split.md)

  jmsnas split mobilenet_v2 --policy relay --sweep rate=1..200Mbit/s      best splits by link rate

  jmsnas split first --method hivemind                  a run's model, split by another method

  jmsnas split --costs mine.toml --t-const 80ms         its candidates of highest score with T <= 80 ms

  jmsnas split mobilenet_v2 --list                      the layers by number: bytes, MACs, seconds

  jmsnas split mobilenet_v2 --cuts 4,9,12               what a given split costs, and its gap to the optimum

Next: jmsnas split MODEL --pictures FOLDER
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitArguments:
    """Command-line arguments of `jmsnas split`."""

    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Run, model by name, or .onnx file.")
    ] = None
    costs: Annotated[
        Path | None, typer.Option(help="Table of given latencies and sizes: .toml, .json or .csv.")
    ] = None
    topology: Annotated[
        str | None,
        typer.Option(help="chain, mesh, desk, or a .toml file. Default: that of the run, else chain."),
    ] = None
    method: Annotated[
        str, typer.Option(help="optimal, hivemind, neurosurgeon, dads, hermes, cloud, device, or all.")
    ] = "optimal"
    cuts: Annotated[
        str | None, typer.Option(help="A given split: the last layer of each device but the last, as 4,9,12.")
    ] = None
    place: Annotated[
        list[str] | None,
        typer.Option(help="A given split: the layers of a device, as pi4=1-4,7; once per device."),
    ] = None
    list_layers: Annotated[
        bool, typer.Option("--list", help="List the layers: bytes, MACs, weights, seconds per device.")
    ] = False
    objective: Annotated[str, typer.Option(help="latency, throughput or energy.")] = "latency"
    policy: PolicyOption = None
    min_layers: Annotated[int, typer.Option(help="Minimum number of layers on the first device.")] = 0
    encoding: Annotated[
        str | None, typer.Option("--input", help="uint8, float32 or jpeg. Default: the topology's.")
    ] = None
    image: Annotated[
        Path | None,
        typer.Option(help="Photo to take the JPEG size from. Default: mean of two sample photos."),
    ] = None
    size: Annotated[
        int | None, typer.Option(help="Input height and width in pixels. Default: 224, or that of the file.")
    ] = None
    width: Annotated[float, typer.Option(help="Width multiplier of a MobileNet.")] = 1.0
    t_const: Annotated[
        str | None,
        typer.Option(
            help="Latency limit, as 80ms: of the candidates in --costs choose those of highest score."
        ),
    ] = None
    energy_limit: Annotated[str | None, typer.Option(help="Maximum energy per image, as 0.5J.")] = None
    deadline: Annotated[
        str | None, typer.Option(help="Latency target, as 100ms; explains which changes would meet it.")
    ] = None
    sweep: Annotated[str | None, typer.Option(help="Best splits over a range, as rate=1..200Mbit/s.")] = None
    explain: Annotated[
        bool, typer.Option("--explain", help="Print terms, bottleneck and break-even rate.")
    ] = False
    pictures: Annotated[Path | None, typer.Option(help="Folder for plots of the trade-offs.")] = None
    time_limit: Annotated[float, typer.Option(help="Solver time for a model with branches, seconds.")] = 30.0
    folder: WorkspaceOption = DEFAULT_WORKSPACE
    as_json: JsonOption = False


@app.command("split", help=_HELP)
@one_line_errors
@options_from(SplitArguments)
def split_command(args: SplitArguments) -> None:
    """Parse, split, print."""
    from jmsnas.cli.output.split import finite_json, print_split, split_document
    from jmsnas.cli.output.split_layers import layers_document, print_layers
    from jmsnas.cli.split_input import load_input, split_requests

    with progress_bar() as progress:
        loaded = load_input(args, Workspace(args.folder), progress)
    problem = loaded.problem
    for name in problem.simulated:
        warn(f"SIMULATED: {name} was not measured; its latencies are a roofline of published figures.")
    for name in problem.published:
        warn(f"PUBLISHED: {name} was not measured here; its U(.) is fitted to a table published by others.")
    if args.list_layers:
        document = layers_document(problem, loaded.model)
        print_json(document) if args.as_json else print_layers(document)
        return
    requests = split_requests(args, loaded)
    document = split_document(loaded, requests, args)
    if args.pictures:
        from jmsnas.report.tradeoff_plots import write_pictures

        for path in write_pictures(problem, requests[0], args.pictures):
            log(f"drawn: {path}")
    print_json(finite_json(document)) if args.as_json else print_split(document)
