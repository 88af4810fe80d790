"""`jmsnas search`: search an architecture and its split over a topology within a latency target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import (
    DEFAULT_WORKSPACE,
    ConstraintOption,
    DataDirOption,
    DatasetOption,
    DeriveOption,
    JsonOption,
    PolicyOption,
    RecipeOption,
    SeedOption,
    SpaceOption,
    TargetsOption,
    TopologyOption,
    WorkspaceOption,
    options_from,
)
from jmsnas.cli.output.search import print_result, print_summary_table, simulated_devices
from jmsnas.cli.terminal import (
    log,
    one_line_errors,
    print_json,
    print_line,
    progress_bar,
    warn,
    warn_simulated,
)
from jmsnas.cli.topology_warnings import warn_of_figures
from jmsnas.workspace import Workspace

if TYPE_CHECKING:
    from jmsnas.nas.run_result import RunResult
    from jmsnas.nas.search.run_folder import SearchSetup

_HELP = """Search an architecture AND its split over a chain or a mesh of devices, so that T <= T_const.

Devices without a latency table are SIMULATED and marked so. Writes the folder runs/NAME; the same command
resumes a stopped search.

[bold]Examples[/bold]

  jmsnas search --topology chain                       the paper's chain; T_const: mid of the feasible range

  jmsnas search --topology chain --t-const 2.5ms       your latency target

  jmsnas search --t-const 2.5ms@p95                    the 95th percentile of the measured T is to meet it

  jmsnas search --topology mesh                        parallel branches on three base stations (Fig. 2(b))

  jmsnas search --topology desk                        this host as the UE (profile it first)

  jmsnas search --topology mine.toml                   your devices and links

  jmsnas search --split fixed                          the paper's: equal parts, only operations are searched

  jmsnas search --t-const 2ms --t-const 3ms            two targets, one warm-up: runs NAME-1 and NAME-2

  jmsnas search --front 5                              one search, five models over the feasible range

  jmsnas search --recipe fashion-mnist --data-dir DIR  another space, data set and schedule

Next: jmsnas report NAME
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchArguments:
    """Command-line options of `jmsnas search`."""

    topology: TopologyOption = "chain"
    recipe: RecipeOption = "first-run"
    space: SpaceOption = None
    dataset: DatasetOption = None
    data_dir: DataDirOption = None
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode images; 0: the training process.")
    ] = 0
    t_const: TargetsOption = None
    front: Annotated[int | None, typer.Option(min=1, help="Derive K models over the feasible range.")] = None
    constraint: ConstraintOption = "penalty"
    derive: DeriveOption = "constrained"
    split: Annotated[str, typer.Option(help="joint: operations and cuts together; fixed: given cuts.")] = (
        "joint"
    )
    policy: PolicyOption = None
    input_encoding: Annotated[
        str | None,
        typer.Option("--input", help="Raw image on the wire: uint8, float32. Default: the topology's."),
    ] = None
    min_layers: Annotated[int | None, typer.Option(min=0, help="Minimum layers on the first device.")] = None
    name: Annotated[str | None, typer.Option(help="Name of the run. Default: dated.")] = None
    threads: Annotated[int, typer.Option(min=1, help="Training threads.")] = 1
    train_on: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto"
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard files.")] = False
    seed: SeedOption = 0
    folder: WorkspaceOption = DEFAULT_WORKSPACE
    as_json: JsonOption = False


@app.command("search", help=_HELP)
@one_line_errors
@options_from(SearchArguments)
def search_command(args: SearchArguments) -> None:
    """Parse, search, print."""
    from jmsnas.nas.search.percentile_target import parse_target

    targets = [parse_target(text) for text in args.t_const or ()]
    targets_s, percentiles = tuple(s for s, _ in targets), tuple(p for _, p in targets)
    workspace = Workspace(args.folder)

    from jmsnas.nas.search.config import find_recipe
    from jmsnas.nas.search.multi_target import SearchRequest, run_request
    from jmsnas.nas.search.run import RunOptions, SearchInputs, prepare_search
    from jmsnas.nas.search.run_folder import DatasetOptions
    from jmsnas.nas.search.split_options import SplitOptions
    from jmsnas.nas.supernet.distributed import init_distributed
    from jmsnas.nas.supernet.training import training_device

    recipe, device = find_recipe(args.recipe), training_device(args.train_on)
    request = SearchRequest(targets_s, recipe.levels, args.front or 0, percentiles)
    config = replace(
        recipe.config,
        seed=args.seed,
        constraint=args.constraint,
        derive=args.derive,
        threads=args.threads,
        train_on=args.train_on,
    )
    space, dataset = args.space or recipe.space, args.dataset or recipe.dataset
    new_name = workspace.run(args.name or dated_name(args.topology, space, args.seed)).name
    ranks = init_distributed()
    data = DatasetOptions(args.data_dir or workspace.folder / "data", args.workers)
    split = SplitOptions(args.split, args.policy, args.input_encoding, args.min_layers)
    with progress_bar(ranks.first) as progress, ranks.one_at_a_time():
        inputs = SearchInputs(args.topology, space, dataset, data, split)
        setup = prepare_search(workspace, inputs, args.seed, progress, warn)
    if any(percentile > 50 for percentile in percentiles):
        report = log if ranks.first else lambda text: None
        request = replace(request, ratios=percentile_ratios(workspace, setup, report))
    if ranks.first:
        warn_simulated(simulated_devices(setup))
        warn_of_figures(workspace, setup.topology.devices, setup.topology.links)
        log(f"training on {device} with {args.threads} thread{'s' * (args.threads > 1)}")
    with progress_bar(ranks.first) as progress:
        run_options = RunOptions(progress, args.tensorboard, ranks)
        name, runs = run_request(workspace, setup, config, request, args.name, new_name, run_options)
    if ranks.first:
        print_runs(name, runs, args.as_json)


def percentile_ratios(
    workspace: Workspace, setup: "SearchSetup", log: Callable[[str], None]
) -> tuple[float, ...]:
    """Ratios of the percentiles of T to its median: measured by the last deployment, else by U(.)."""
    from jmsnas.deploy.leader.latency_spread import read_spread
    from jmsnas.nas.search.percentile_target import interval_ratios

    name = setup.topology.name
    spread = read_spread(workspace, name)
    if spread is not None:
        log(f"margin below T_const: from the spread of T in {spread.source} over topology {name}")
        return spread.ratios
    log(f"margin below T_const: from the prediction intervals of U(.), as topology {name} was not deployed")
    return interval_ratios(setup.estimators.values(), setup.space.blocks())


def print_runs(name: str, runs: Sequence["RunResult"], as_json: bool) -> None:
    """Print one run in full or several in a table, then the next command."""
    if as_json:
        documents = [run.document for run in runs]
        print_json(documents[0] if len(documents) == 1 else {"name": name, "runs": documents})
    elif len(runs) == 1:
        print_result(runs[0])
        print_line("", f"Run: {runs[0].folder}", f"Next: jmsnas report {name}")
    else:
        print_summary_table(runs)
        print_line("", f"Runs: {runs[0].folder.parent}", f"Next: jmsnas report {runs[0].name}")


def dated_name(topology: str, space: str, seed: int) -> str:
    """Make a run name from topology, space, seed and time, such as `chain-digits-s0-20261123-143000`."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"{Path(topology).stem}-{Path(space).stem}-s{seed}-{stamp}".lower()
