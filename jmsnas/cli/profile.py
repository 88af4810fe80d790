"""`jmsnas profile`: latency tables, measured on this host or simulated."""

from typing import Annotated, Any

import typer

from jmsnas.cli import app
from jmsnas.cli.terminal import (
    DEFAULT_WORKSPACE,
    JsonOption,
    SeedOption,
    WorkspaceOption,
    one_line_errors,
    print_json,
    progress_bar,
    say,
    warn,
    warn_simulated,
    workspace,
)

_EXAMPLES = """Measure every block of a search space on a device, into tables/DEVICE.parquet.

The same command again goes on where it was stopped. A device that is not at hand is SIMULATED, and says so.

[bold]Examples[/bold]

  jmsnas profile                                  this host, both run times

  jmsnas profile --dry-run                        what would be measured, and how long that takes

  jmsnas profile --runtime onnxruntime            only the one that will serve

  jmsnas profile --space imagenet --budget 5m     5 min a run time; again: the same table, finer

  jmsnas profile --device pi4 --device jetson     two devices in turn

  jmsnas profile --device jetson --measured-only  refuse to simulate

  jmsnas profile --runtime torch --processor cuda --dtype float16 --batch 8

  jmsnas profile --breakdown                      where the time of each block goes, as torchprof sees it

Next: jmsnas fit-estimator
"""


@app.command("profile", help=_EXAMPLES)
@one_line_errors
def profile_command(
    device: Annotated[
        list[str] | None, typer.Option("--device", help="local or a built-in device; may be repeated.")
    ] = None,
    space: Annotated[str, typer.Option("--space", help="Search space: a name or a .toml file.")] = "digits",
    runtime: Annotated[
        list[str] | None, typer.Option("--runtime", help="onnxruntime or torch; may be repeated.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", help="Threads a block runs with.")] = 1,
    batch: Annotated[int, typer.Option("--batch", help="Images a call.")] = 1,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, or float16 on cuda.")] = "float32",
    processor: Annotated[str, typer.Option("--processor", help="cpu or cuda.")] = "cpu",
    layout: Annotated[
        str, typer.Option("--layout", help="contiguous or channels_last (torch), of the activations.")
    ] = "contiguous",
    timer: Annotated[
        str, typer.Option("--timer", help="wall, or torchprof: a table the paper's way, to compare with.")
    ] = "wall",
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", help="Sampling time a run time, as 60s, all of it used. Default: until 1 %."
        ),
    ] = None,
    off_grid: Annotated[
        int, typer.Option("--off-grid", help="Blocks of other widths and resolutions, for U(.).")
    ] = 16,
    parts: Annotated[int, typer.Option("--parts", help="Whole networks, to correct sums of blocks by.")] = 10,
    mobilenets: Annotated[
        bool, typer.Option("--mobilenets", help="The blocks of MobileNet V1, V2 and V3 too.")
    ] = False,
    breakdown: Annotated[
        bool, typer.Option("--breakdown", help="Only show expand, depthwise, project and add of each block.")
    ] = False,
    measured_only: Annotated[
        bool, typer.Option("--measured-only", help="Refuse a device that this host is not.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and the time, then stop.")
    ] = False,
    seed: SeedOption = 0,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, profile each device, print."""
    from jmsnas.cli.profile_output import (
        device_document,
        plan_document,
        plan_lines,
        print_device,
        print_plan,
    )
    from jmsnas.profiler.plan import make_plan
    from jmsnas.profiler.table import RUNTIMES, Key
    from jmsnas.space_file import load_space
    from jmsnas.units import parse_duration

    place, devices = workspace(folder), list(dict.fromkeys(device or ["local"]))
    budget_s = parse_duration(budget) if budget is not None else None
    names = runtime or (RUNTIMES if (timer, layout) == ("wall", "contiguous") else ("torch",))
    keys = [Key(name, threads, batch, dtype, processor, layout, timer) for name in dict.fromkeys(names)]
    chosen = load_space(space, place.spaces)
    if breakdown:
        from jmsnas.cli.breakdown import breakdown_command

        shown = [breakdown_command(name, chosen.blocks(), place, seed, as_json) for name in devices]
        if as_json:
            print_json({"space": space, "devices": shown})
        return
    plan = make_plan(chosen, off_grid, parts, mobilenets, seed)
    planned: dict[str, Any] = plan_document(plan, devices, keys, place, budget_s)
    if dry_run:
        print_json(planned) if as_json else print_plan(planned)
        return
    for line in plan_lines(device for device in planned["devices"] if device["measured_here"]):
        say(line)

    from jmsnas.profiler.sweep import profile_device

    documents = []
    for name in devices:
        with progress_bar() as progress:
            found = profile_device(
                name,
                plan.subjects,
                keys,
                place,
                measured_only=measured_only,
                seed=seed,
                budget_s=budget_s,
                progress=progress,
                tell=warn,
            )
        if found.table.simulated:
            warn_simulated([name])
        documents.append(device_document(found, keys))
    if as_json:
        print_json({"space": space, "devices": documents})
        return
    for document in documents:
        print_device(document)
    print("\nNext: jmsnas fit-estimator")
