"""Command-line arguments of `jmsnas profile`."""

from dataclasses import dataclass
from typing import Annotated

import typer

from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, SeedOption, WorkspaceOption


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileArguments:
    """Command-line options of `jmsnas profile`."""

    device: Annotated[list[str] | None, typer.Option(help="local or a built-in device; may be repeated.")] = (
        None
    )
    topology: Annotated[
        str | None, typer.Option(help="All devices of this topology that have no table of the space.")
    ] = None
    space: Annotated[str, typer.Option(help="Search space: a name or a .toml file.")] = "digits"
    runtime: Annotated[list[str] | None, typer.Option(help="onnxruntime or torch; may be repeated.")] = None
    threads: Annotated[int, typer.Option(help="Threads per block.")] = 1
    batch: Annotated[int, typer.Option(help="Images per call.")] = 1
    dtype: Annotated[str, typer.Option(help="float32, or float16 on cuda.")] = "float32"
    processor: Annotated[str | None, typer.Option(help="cpu or cuda. Default: the device's.")] = None
    layout: Annotated[
        str, typer.Option(help="Memory format of activations: contiguous or channels_last (torch).")
    ] = "contiguous"
    timer: Annotated[str, typer.Option(help="wall, or torchprof: as in the paper, for comparison.")] = "wall"
    budget: Annotated[
        str | None,
        typer.Option(
            help="Sampling time per runtime, as 60s, spent completely. Default: until 1 % precision."
        ),
    ] = None
    blocks: Annotated[
        int | None,
        typer.Option(help="Measure the N most informative blocks only, fit U(.), print its error."),
    ] = None
    until_mape: Annotated[
        float | None,
        typer.Option(help="Measure more until the error of U(.) on unseen layers is this percentage."),
    ] = None
    off_grid: Annotated[
        int, typer.Option(help="Number of blocks of other widths and resolutions, for U(.).")
    ] = 16
    parts: Annotated[int, typer.Option(help="Number of whole models, to correct sums of blocks.")] = 10
    mobilenets: Annotated[
        bool, typer.Option("--mobilenets", help="Include the blocks of MobileNet V1, V2 and V3.")
    ] = False
    breakdown: Annotated[
        bool,
        typer.Option("--breakdown", help="Only print the time per stage (expand, depthwise, project, add)."),
    ] = False
    model: Annotated[
        str | None, typer.Option(help="Measure only the units of this model, for jmsnas split.")
    ] = None
    size: Annotated[
        int | None, typer.Option(help="Input height and width of --model in pixels. Default: 224.")
    ] = None
    measured_only: Annotated[
        bool, typer.Option("--measured-only", help="Fail instead of simulating a device.")
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its duration, then stop.")
    ] = False
    seed: SeedOption = 0
    folder: WorkspaceOption = DEFAULT_WORKSPACE
    as_json: JsonOption = False
