"""`jmsnas split`: find the best split of a model over a topology, and explain it."""

from jmsnas.cli import app
from jmsnas.cli.options import options_from
from jmsnas.cli.split_arguments import SplitArguments
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
