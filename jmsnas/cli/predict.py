"""`jmsnas predict`: predict the latency of blocks, an architecture or a run's model on devices."""

from jmsnas.cli import app
from jmsnas.cli.options import options_from
from jmsnas.cli.predict_arguments import PredictArguments
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
