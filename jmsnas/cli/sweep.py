"""`jmsnas sweep`: searches over networks, seeds and targets, in parallel."""

from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.search import (
    ConstraintOption,
    DataDirOption,
    DatasetOption,
    DeriveOption,
    RecipeOption,
    SpaceOption,
    TargetsOption,
    dated_name,
)
from jmsnas.cli.search_output import print_points, simulated_devices
from jmsnas.cli.terminal import (
    DEFAULT_WORKSPACE,
    JsonOption,
    WorkspaceOption,
    one_line_errors,
    print_json,
    progress_bar,
    warn,
    warn_simulated,
    workspace,
)

_HELP = """Search for every network, seed and deadline given, in parallel; each point a run of its own.

One warm-up a network and seed; then runs NAME-a-1, NAME-a-2 ... A point that was finished is read, one that
was stopped goes on: the same command with the same --name.

[bold]Examples[/bold]

  jmsnas sweep --seed 0 --seed 1 --t-const 2ms --t-const 3ms --jobs 2

  jmsnas sweep --network chain --network mine.toml --levels 3 --name levels --dask tcp://host:8786

Next: jmsnas report NAME-a-1
"""


@app.command("sweep", help=_HELP)
@one_line_errors
def sweep_command(
    network: Annotated[
        list[str] | None, typer.Option("--network", help="Network; repeatable. Default: chain.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="Seed; repeatable. Default: 0.")] = None,
    t_const: TargetsOption = None,
    levels: Annotated[
        int, typer.Option("--levels", min=1, help="Without --t-const: so many inside each feasible range.")
    ] = 1,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes on this machine.")] = 1,
    dask: Annotated[
        str | None, typer.Option("--dask", help="Address of a Dask scheduler, whose workers run the points.")
    ] = None,
    recipe: RecipeOption = "first-run",
    space: SpaceOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    constraint: ConstraintOption = "penalty",
    derive: DeriveOption = "constrained",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the sweep. Default: from the date.")
    ] = None,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, search, print."""
    from dataclasses import replace

    from jmsnas.units import parse_duration

    targets_s = [parse_duration(text) for text in t_const or ()]

    from jmsnas.nas.derivation.target import targets_in_range
    from jmsnas.nas.search.multi_target import ParallelOptions, SearchGroup, run_groups, targets_group
    from jmsnas.nas.search.recipes import recipe as find_recipe
    from jmsnas.nas.search.run import RunOptions, prepare_search
    from jmsnas.nas.search.run_folder import DatasetOptions

    found, place, groups = find_recipe(recipe), workspace(folder), list[SearchGroup]()
    space, dataset = space or found.space, dataset or found.dataset
    name = place.run(name or dated_name("sweep", space, 0)).name
    data = DatasetOptions((data_dir or place.folder / "data").resolve())
    with progress_bar() as progress:
        for topology_name in network or ["chain"]:
            setting = prepare_search(place, topology_name, space, dataset, 0, progress, warn, data)
            warn_simulated(simulated_devices(setting))
            for one in seed or [0]:
                config = replace(found.config, seed=one, constraint=constraint, derive=derive)
                group_name = f"{name}-{chr(ord('a') + len(groups))}"
                targets = targets_s or targets_in_range(setting.lut, levels)
                groups.append(targets_group(group_name, setting, config, targets))
        place = replace(place, folder=Path(place.folder).resolve())  # others' working folder may be another
        runs = run_groups(place, groups, RunOptions(progress), ParallelOptions(jobs, dask))
    documents = [run.document for of_group in runs for run in of_group]
    if as_json:
        print_json({"name": name, "runs": documents})
        return
    print_points(documents)
    print(f"\nRuns: {place.folder / 'runs'}\nNext: jmsnas report {documents[0]['name']}")
