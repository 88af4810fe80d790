"""`jmsnas predict`: seconds of a block, an architecture or a run's network, and what they rest on."""

from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, SeedOption, WorkspaceOption
from jmsnas.cli.terminal import one_line_errors, print_json, progress_bar, warn_simulated
from jmsnas.workspace import Workspace

_HELP = """Predict the seconds of a block, an architecture or a run's network on a device.

Prints the interval too, and what it rests on: the block's own row, or U(.) and how good that is.
A device is one that was profiled, imported, or fitted with fit-estimator --table.

[bold]Examples[/bold]

  jmsnas predict --device jetson --block mb_k5_e6 --in 32x28x28

  jmsnas predict --block mb_k5_e6 --in 32x28x28 --out 64 --stride 2 --device jetson --device local

  jmsnas predict --block "mb_k5_e6 32->64 28x28 /2"            the same block, as tables print it

  jmsnas predict --block "mb_k3_e3 16->24 8x8 /2" --block "identity 24->24 4x4"            a part

  jmsnas predict --arch "mb_k3_e3,identity,..."                a name a layer; stem and head are implied

  jmsnas predict --run first                                   a search's network, whole and as it was cut

Before: jmsnas profile. Next: jmsnas search --topology chain
"""


@app.command("predict", help=_HELP)
@one_line_errors
def predict_command(
    device: Annotated[
        list[str] | None,
        typer.Option("--device", help="Profiled device; may be repeated. Default: the run's, else local."),
    ] = None,
    block: Annotated[
        list[str] | None, typer.Option("--block", help="A block; repeated: a part, one after another.")
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option("--in", help="Channels x height x width into the block, as 32x28x28.")
    ] = None,
    out: Annotated[
        int | None, typer.Option("--out", help="Channels out of the block. Default: as many as in.")
    ] = None,
    stride: Annotated[int | None, typer.Option("--stride", help="1 or 2. Default: 1.")] = None,
    arch: Annotated[
        str | None, typer.Option("--arch", help="Candidates of a network, with commas between.")
    ] = None,
    space: Annotated[
        str | None, typer.Option("--space", help="Space of --arch: a name or a .toml file. Default: digits.")
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="Name or folder of a finished run.")] = None,
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", help="onnxruntime or torch. Default: the run's, else what there is."),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="All of the key, as onnxruntime-t4-b1-f32, for --runtime.")
    ] = None,
    seed: SeedOption = 0,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, predict on each device, print."""
    from jmsnas.cli.predict_input import prediction_columns, requested_blocks

    place = Workspace(folder)
    part, cuts = requested_blocks(place, block or (), (input_shape, out, stride), arch, space, run)

    from jmsnas.cli.predict_output import device_document, print_predictions
    from jmsnas.estimators.lookup import find_device_model
    from jmsnas.estimators.prediction import predict_part

    documents = []
    for name, its in prediction_columns(device or (), runtime, cuts):
        with progress_bar() as progress:
            basis = find_device_model(place, name, its, key, seed, progress)
        own = [cut for cut in cuts if (cut.table, runtime or cut.runtime) == (name, its)]
        shares = [(cut, predict_part(basis, cut.part)) for cut in own]
        documents.append(device_document(basis, predict_part(basis, part), shares))
    warn_simulated([found["device"] for found in documents if found["simulated"]])
    print_json({"devices": documents}) if as_json else print_predictions(documents)
