"""`jmsnas predict`: predict the latency of blocks, an architecture or a run's model on devices."""

from dataclasses import dataclass
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, SeedOption, WorkspaceOption, options_from
from jmsnas.cli.terminal import one_line_errors, print_json, progress_bar, warn_simulated
from jmsnas.workspace import Workspace

_HELP = """Predict the latency of a block, an architecture or a run's model on a device.

Prints the interval and its source: the block's measured row, or U(.) with its error on unseen layers.
A device is one that was profiled, imported, or fitted with fit-estimator --table.

[bold]Examples[/bold]

  jmsnas predict --device jetson --block mb_k5_e6 --in 32x28x28

  jmsnas predict --block mb_k5_e6 --in 32x28x28 --out 64 --stride 2 --device jetson --device local

  jmsnas predict --block "mb_k5_e6 32->64 28x28 /2"            the same block, as printed in tables

  jmsnas predict --block "mb_k3_e3 16->24 8x8 /2" --block "identity 24->24 4x4"            consecutive blocks

  jmsnas predict --arch "mb_k3_e3,identity,..."                one name per layer; stem and head are implied

  jmsnas predict --run first                                   the model of a run, whole and as split

Before: jmsnas profile. Next: jmsnas search --topology chain
"""


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


@app.command("predict", help=_HELP)
@one_line_errors
@options_from(PredictArguments)
def predict_command(args: PredictArguments) -> None:
    """Parse, predict on each device, print."""
    from jmsnas.cli.predict_input import devices_and_runtimes, requested_blocks

    workspace = Workspace(args.folder)
    part, device_parts = requested_blocks(args, workspace)

    from jmsnas.cli.output.predict import device_document, print_predictions
    from jmsnas.estimators.lookup import find_device_model
    from jmsnas.estimators.prediction import predict_part

    documents = []
    for device, runtime in devices_and_runtimes(args, device_parts):
        with progress_bar() as progress:
            model = find_device_model(workspace, device, runtime, args.key, args.seed, progress)
        predicted_parts = [
            (own, predict_part(model, own.part))
            for own in device_parts
            if (own.table, args.runtime or own.runtime) == (device, runtime)
        ]
        documents.append(device_document(model, predict_part(model, part), predicted_parts))
    warn_simulated([document["device"] for document in documents if document["simulated"]])
    print_json({"devices": documents}) if args.as_json else print_predictions(documents)
