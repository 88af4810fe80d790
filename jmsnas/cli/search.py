"""`jmsnas search`: a network and its split over a chain of devices, within a deadline."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jmsnas.cli import app
from jmsnas.cli.search_output import print_points, print_result, simulated_devices
from jmsnas.cli.terminal import (
    DEFAULT_WORKSPACE,
    JsonOption,
    SeedOption,
    WorkspaceOption,
    log,
    one_line_errors,
    print_json,
    progress_bar,
    warn,
    warn_simulated,
    workspace,
)

_HELP = """Search an architecture AND its split over a chain of devices, so that T <= T_const.

Devices that nobody has profiled are SIMULATED, and say so. Leaves a folder runs/NAME, which the same command
goes on with when it was stopped.

[bold]Examples[/bold]

  jmsnas search --topology chain                       the paper's chain; T_const: middle of what is feasible

  jmsnas search --topology chain --t-const 2.5ms       your deadline

  jmsnas search --topology mesh                        parallel branches on three base stations (Fig. 2(b))

  jmsnas search --split fixed                          the paper's: equal parts, only operations are searched

  jmsnas search --t-const 2ms --t-const 3ms            two deadlines, one warm-up: runs NAME-1 and NAME-2

  jmsnas search --front 5                              one search, five networks over the feasible range

  jmsnas search --recipe fashion-mnist --data-dir DIR  another space, data set and schedule

  jmsnas search --topology chain --network desk        this host as the UE (profile it first)

  jmsnas search --topology chain --network mine.toml   your devices and links

Next: jmsnas report NAME
"""

TopologyOption = Annotated[str, typer.Option("--topology", help="chain, or mesh: parallel branches.")]
NetworkOption = Annotated[
    str | None,
    typer.Option("--network", help="chain, desk, mesh, or a .toml file. Default: the topology's."),
]
SplitOption = Annotated[
    str,
    typer.Option("--split", help="joint: operations and cuts together; fixed: given cuts."),
]
PolicyOption = Annotated[
    str | None, typer.Option("--policy", help="strict, relay or stop-early. Default: the network's.")
]
InputOption = Annotated[
    str | None,
    typer.Option("--input", help="Raw image on the wire: uint8, float32. Default: the network's."),
]
MinLayersOption = Annotated[
    int | None, typer.Option("--min-layers", min=0, help="Layers the first device runs at least.")
]
RecipeOption = Annotated[
    str, typer.Option("--recipe", help="Space, data set, schedule: first-run, fashion-mnist, cifar, paper.")
]
SpaceOption = Annotated[
    str | None, typer.Option("--space", help="A name or a .toml file. Default: the recipe's.")
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset", help="digits, fashion-mnist, cifar10, imagenette, imagenet. Default: the recipe's."
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where the data set's files lie or go. Default: data in the workspace."),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=0, help="Processes that decode photographs; 0: the training's own.")
]
TargetsOption = Annotated[
    list[str] | None,
    typer.Option("--t-const", help="Deadline, as 120ms; repeatable. Default: middle of the feasible range."),
]
ConstraintOption = Annotated[
    str, typer.Option("--constraint", help="penalty, or multiplier: learned on T of the likeliest network.")
]
DeriveOption = Annotated[
    str, typer.Option("--derive", help="constrained: exactly, within 3 % below T_const; or argmax.")
]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="Threads to train with.")]
TrainOnOption = Annotated[str, typer.Option("--train-on", help="auto, cpu or cuda.")]


@app.command("search", help=_HELP)
@one_line_errors
def search_command(
    topology: TopologyOption = "chain",
    network: NetworkOption = None,
    recipe: RecipeOption = "first-run",
    space: SpaceOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    workers: WorkersOption = 0,
    t_const: TargetsOption = None,
    front: Annotated[
        int | None,
        typer.Option("--front", min=1, help="Derive K networks over the feasible range."),
    ] = None,
    constraint: ConstraintOption = "penalty",
    derive: DeriveOption = "constrained",
    split: SplitOption = "joint",
    policy: PolicyOption = None,
    input_encoding: InputOption = None,
    min_layers: MinLayersOption = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the run. Default: from the date.")
    ] = None,
    threads: ThreadsOption = 1,
    train_on: TrainOnOption = "auto",
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard files.")] = False,
    seed: SeedOption = 0,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, search, print."""
    from dataclasses import replace

    from jmsnas.nas.search.split_options import SplitOptions, topology_name
    from jmsnas.units import parse_duration

    place = workspace(folder)
    network = topology_name(topology, network, place.topologies)
    splitting = SplitOptions(split, policy, input_encoding, min_layers)
    targets_s = tuple(parse_duration(text) for text in t_const or ())

    from jmsnas.nas.search.recipes import recipe as find_recipe
    from jmsnas.nas.search.request import SearchRequest, run_request
    from jmsnas.nas.search.run import RunOptions, prepare_search
    from jmsnas.nas.search.run_folder import DatasetOptions
    from jmsnas.nas.supernet.distributed import init_distributed
    from jmsnas.nas.supernet.training import training_device

    found, trained_on = find_recipe(recipe), training_device(train_on)
    asked = SearchRequest(targets_s, found.levels, front or 0)
    config = replace(
        found.config, seed=seed, constraint=constraint, derive=derive, threads=threads, train_on=train_on
    )
    space, dataset = space or found.space, dataset or found.dataset
    new_name = place.run(name or dated_name(network, space, seed)).name
    ranks, data = init_distributed(), DatasetOptions(data_dir or place.folder / "data", workers)
    with progress_bar(ranks.first) as progress, ranks.one_at_a_time():
        setting = prepare_search(place, network, space, dataset, seed, progress, warn, data, splitting)
    if ranks.first:
        warn_simulated(simulated_devices(setting))
        log(f"training on {trained_on} with {threads} thread{'s' * (threads > 1)}")
    with progress_bar(ranks.first) as progress:
        how = RunOptions(progress, tensorboard, ranks)
        run_name, runs = run_request(place, setting, config, asked, name, new_name, how)
    if ranks.first:
        print_runs(run_name, [run.document for run in runs], runs[0].folder, as_json)


def print_runs(name: str, documents: list[dict[str, Any]], folder: Path, as_json: bool) -> None:
    """Print one network in full, or several side by side, and what comes next."""
    if as_json:
        print_json(documents[0] if len(documents) == 1 else {"name": name, "runs": documents})
    elif len(documents) == 1:
        print_result(documents[0])
        print(f"\nRun: {folder}\nNext: jmsnas report {name}")
    else:
        print_points(documents)
        print(f"\nRuns: {folder.parent}\nNext: jmsnas report {documents[0]['name']}")


def dated_name(network: str, space: str, seed: int) -> str:
    """Name a run by its network, space, seed and the time: `chain-digits-s0-20261123-143000`."""
    from datetime import datetime

    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"{Path(network).stem}-{Path(space).stem}-s{seed}-{stamp}".lower()
