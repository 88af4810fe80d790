"""Command-line arguments of `jmsnas predict`."""

from dataclasses import dataclass
from typing import Annotated

import typer

from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, SeedOption, WorkspaceOption


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictArguments:
    """Command-line options of `jmsnas predict`."""

    device: Annotated[
        list[str] | None, typer.Option(help="Device; may be repeated. Default: those of the run, else local.")
    ] = None
    block: Annotated[list[str] | None, typer.Option(help="A block; repeat for consecutive blocks.")] = None
    input_shape: Annotated[
        str | None,
        typer.Option("--in", help="Input of the block as CHANNELSxHEIGHTxWIDTH, such as 32x28x28."),
    ] = None
    out: Annotated[int | None, typer.Option(help="Output channels of the block. Default: the input's.")] = (
        None
    )
    stride: Annotated[int | None, typer.Option(help="1 or 2. Default: 1.")] = None
    arch: Annotated[str | None, typer.Option(help="Candidates of an architecture, separated by commas.")] = (
        None
    )
    space: Annotated[
        str | None, typer.Option(help="Search space of --arch: a name or a .toml file. Default: digits.")
    ] = None
    run: Annotated[str | None, typer.Option(help="Name or folder of a finished run.")] = None
    runtime: Annotated[
        str | None, typer.Option(help="onnxruntime or torch. Default: the run's, else the available one.")
    ] = None
    key: Annotated[
        str | None, typer.Option(help="Full runtime key, as onnxruntime-t4-b1-f32, instead of --runtime.")
    ] = None
    seed: SeedOption = 0
    folder: WorkspaceOption = DEFAULT_WORKSPACE
    as_json: JsonOption = False
