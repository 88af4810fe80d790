"""`jmsnas profile`: measure or simulate the latencies of blocks, models or block stages."""

from dataclasses import dataclass
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, SeedOption, WorkspaceOption, options_from
from jmsnas.cli.terminal import one_line_errors

_HELP = """Measure every block of a search space on a device, into tables/DEVICE.parquet.

The same command resumes a stopped profile. A device that is not available is SIMULATED and marked so.

[bold]Examples[/bold]

  jmsnas profile                                  this host, in both runtimes

  jmsnas profile --dry-run                        print what would be measured, and the duration

  jmsnas profile --runtime onnxruntime            only the runtime that serves parts

  jmsnas profile --space imagenet --budget 5m     5 min per runtime; again: refine the same table

  jmsnas profile --blocks 20                      only the 20 most informative blocks, and the error of U(.)

  jmsnas profile --until-mape 5                   add blocks until U(.) has 5 % error on unseen layers

  jmsnas profile --device pi4 --device jetson     two devices, one after the other

  jmsnas profile --device jetson --measured-only  refuse to simulate

  jmsnas profile --runtime torch --processor cuda --dtype float16 --batch 8

  jmsnas profile --model resnet50 --size 224      the units of one model, for jmsnas split

  jmsnas profile --breakdown                      time per stage of each block, measured by torchprof

Next: jmsnas fit-estimator
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileArguments:
    """Command-line options of `jmsnas profile`."""

    device: Annotated[list[str] | None, typer.Option(help="local or a built-in device; may be repeated.")] = (
        None
    )
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


@app.command("profile", help=_HELP)
@one_line_errors
@options_from(ProfileArguments)
def profile_command(args: ProfileArguments) -> None:
    """Run one of the three modes: a model, block stages, or the blocks of a search space."""
    if args.model is not None:
        from jmsnas.cli.profile_model import profile_model_command

        profile_model_command(args, args.model)
    elif args.breakdown:
        from jmsnas.cli.profile_breakdown import profile_breakdown_command

        profile_breakdown_command(args)
    else:
        from jmsnas.cli.profile_space import profile_space_command

        profile_space_command(args)
