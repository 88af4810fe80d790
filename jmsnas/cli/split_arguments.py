"""Command-line arguments of `jmsnas split`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, PolicyOption, WorkspaceOption


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
        typer.Option(help="chain, mesh, desk, a NAME of yours, or a file. Default: the run's, else chain."),
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
    time_limit: Annotated[
        float, typer.Option(help="Time of all solvers for a model with branches, seconds.")
    ] = 30.0
    folder: WorkspaceOption = DEFAULT_WORKSPACE
    as_json: JsonOption = False
