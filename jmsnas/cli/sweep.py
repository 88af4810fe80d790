"""`jmsnas sweep`: search over topologies, seeds and latency targets, in parallel."""

from dataclasses import dataclass, replace
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import (
    DEFAULT_WORKSPACE,
    ConstraintOption,
    DataDirOption,
    DatasetOption,
    DeriveOption,
    JsonOption,
    RecipeOption,
    SpaceOption,
    TargetsOption,
    WorkspaceOption,
    options_from,
)
from jmsnas.cli.output.search import print_summary_table, simulated_devices
from jmsnas.cli.search import dated_name
from jmsnas.cli.terminal import one_line_errors, print_json, print_line, progress_bar, warn, warn_simulated
from jmsnas.cli.topology_warnings import warn_of_figures
from jmsnas.workspace import Workspace

_HELP = """Search for every given topology, seed and latency target, in parallel; each point is a run.

One warm-up per topology and seed, then runs NAME-a-1, NAME-a-2 ... The same command with the same --name
reads finished points and resumes stopped ones.

[bold]Examples[/bold]

  jmsnas sweep --seed 0 --seed 1 --t-const 2ms --t-const 3ms --jobs 2

  jmsnas sweep --topology chain --topology mine.toml --levels 3 --name levels --dask tcp://host:8786

Next: jmsnas report NAME-a-1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepArguments:
    """Command-line options of `jmsnas sweep`."""

    topology: Annotated[
        list[str] | None,
        typer.Option(help="chain, mesh, desk, a NAME of yours, or a file; repeatable. Default: chain."),
    ] = None
    seed: Annotated[list[int] | None, typer.Option(help="Seed; repeatable. Default: 0.")] = None
    t_const: TargetsOption = None
    levels: Annotated[int, typer.Option(min=1, help="Without --t-const: targets in each feasible range.")] = 1
    jobs: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers run the points.")
    ] = None
    recipe: RecipeOption = "first-run"
    space: SpaceOption = None
    dataset: DatasetOption = None
    data_dir: DataDirOption = None
    constraint: ConstraintOption = "penalty"
    derive: DeriveOption = "constrained"
    name: Annotated[str | None, typer.Option(help="Name of the sweep. Default: dated.")] = None
    folder: WorkspaceOption = DEFAULT_WORKSPACE
    as_json: JsonOption = False


@app.command("sweep", help=_HELP)
@one_line_errors
@options_from(SweepArguments)
def sweep_command(args: SweepArguments) -> None:
    """Parse, search, print."""
    from jmsnas.units import parse_duration

    targets_s = [parse_duration(text) for text in args.t_const or ()]

    from jmsnas.nas.derivation.target import resolve_target, targets_in_range
    from jmsnas.nas.search.config import find_recipe
    from jmsnas.nas.search.multi_target import ParallelOptions, SearchGroup, run_groups, targets_group
    from jmsnas.nas.search.run import RunOptions, SearchInputs, prepare_search
    from jmsnas.nas.search.run_folder import DatasetOptions

    recipe, groups = find_recipe(args.recipe), list[SearchGroup]()
    # An absolute path, since Dask workers may have another working directory.
    workspace = Workspace(args.folder.resolve())
    space, dataset = args.space or recipe.space, args.dataset or recipe.dataset
    name = workspace.run(args.name or dated_name("sweep", space, 0)).name
    data = DatasetOptions((args.data_dir or workspace.folder / "data").resolve())
    with progress_bar() as progress:
        for topology in args.topology or ["chain"]:
            setup = prepare_search(workspace, SearchInputs(topology, space, dataset, data), 0, progress, warn)
            warn_simulated(simulated_devices(setup))
            warn_of_figures(workspace, setup.topology.devices, setup.topology.links)
            known = resolve_target(setup.lut)
            targets = [resolve_target(setup.lut, t_const_s, known) for t_const_s in targets_s]
            targets = targets or targets_in_range(setup.lut, args.levels, known)
            for seed in args.seed or [0]:
                config = replace(recipe.config, seed=seed, constraint=args.constraint, derive=args.derive)
                group_name = f"{name}-{chr(ord('a') + len(groups))}"
                groups.append(targets_group(group_name, setup, config, targets))
        parallel = ParallelOptions(args.jobs, args.dask)
        runs = run_groups(workspace, groups, RunOptions(progress), parallel)
    results = [run for group in runs for run in group]
    if args.as_json:
        print_json({"name": name, "runs": [run.document for run in results]})
        return
    print_summary_table(results)
    print_line("", f"Runs: {workspace.folder / 'runs'}", f"Next: jmsnas report {results[0].name}")
