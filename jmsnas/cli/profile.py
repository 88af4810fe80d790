"""`jmsnas profile`: latency tables, measured on this host or simulated."""

from functools import cache, partial
from typing import Annotated, Any

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, SeedOption, WorkspaceOption
from jmsnas.cli.terminal import log, one_line_errors, print_json, progress_bar, warn, warn_simulated
from jmsnas.workspace import Workspace

_EXAMPLES = """Measure every block of a search space on a device, into tables/DEVICE.parquet.

The same command again goes on where it was stopped. A device that is not at hand is SIMULATED, and says so.

[bold]Examples[/bold]

  jmsnas profile                                  this host, both run times

  jmsnas profile --dry-run                        what would be measured, and how long that takes

  jmsnas profile --runtime onnxruntime            only the one that will serve

  jmsnas profile --space imagenet --budget 5m     5 min a run time; again: the same table, finer

  jmsnas profile --blocks 20                      only those that teach U(.) most, and how sure it is then

  jmsnas profile --until-mape 5                   more and more of them, until it is 5 % off on unseen layers

  jmsnas profile --device pi4 --device jetson     two devices in turn

  jmsnas profile --device jetson --measured-only  refuse to simulate

  jmsnas profile --runtime torch --processor cuda --dtype float16 --batch 8

  jmsnas profile --model resnet50 --size 224      the network's own units, for jmsnas split

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
    processor: Annotated[
        str | None, typer.Option("--processor", help="cpu or cuda. Default: what the device's name is of.")
    ] = None,
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
    blocks: Annotated[
        int | None,
        typer.Option("--blocks", help="Measure only so many, those that teach most, fit U(.), say how sure."),
    ] = None,
    until_mape: Annotated[
        float | None,
        typer.Option("--until-mape", help="Then more, until U(.) is so many percent off on unseen layers."),
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
    model: Annotated[
        str | None, typer.Option("--model", help="Only the units of this network, for jmsnas split.")
    ] = None,
    size: Annotated[int, typer.Option("--size", help="Pixels a side of --model's input.")] = 224,
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
    from jmsnas.cli.profile_remote import AGENT_RUNTIMES, devices_with_agents, profile_by_agent
    from jmsnas.profiler.plan import make_profile_plan
    from jmsnas.profiler.profile import ProfileOptions, check_device, profile_device
    from jmsnas.profiler.simulation.roofline import processor_of
    from jmsnas.profiler.table.latency_table import RUNTIMES, RuntimeKey
    from jmsnas.space_file import load_space
    from jmsnas.units import parse_duration

    place, devices = Workspace(folder), list(dict.fromkeys(device or ["local"]))
    budget_s = parse_duration(budget) if budget is not None else None
    if model is not None:
        from jmsnas.cli.profile_model import print_model, profile_model

        document = profile_model(model, size, devices[0], place, budget_s, threads, seed)
        print_json(document) if as_json else print_model(document)
        return
    names = runtime or (RUNTIMES if (timer, layout) == ("wall", "contiguous") else ("torch",))
    away = devices_with_agents(place, devices)
    keys = {
        name: [
            RuntimeKey(kind, threads, batch, dtype, processor or processor_of(name), layout, timer)
            for kind in dict.fromkeys(names)
        ]
        for name in devices
        if name not in away
    }
    for name, own in keys.items():  # all of them before the first is measured for minutes
        check_device(name, own, measured_only=measured_only)
    # An agent measures in onnxruntime, on the CPU; another run time is refused if it was asked for.
    keys |= {
        name: [
            RuntimeKey(kind, threads, batch, dtype, processor or "cpu", layout, timer)
            for kind in runtime or AGENT_RUNTIMES
        ]
        for name in away
    }
    chosen = load_space(space, place.spaces)
    if breakdown:
        from jmsnas.cli.profile_breakdown import profile_breakdown

        shown = [profile_breakdown(name, chosen.blocks(), place, seed, as_json) for name in devices]
        if as_json:
            print_json({"space": space, "devices": shown})
        return
    plan, few = make_profile_plan(chosen, off_grid, parts, mobilenets, seed), None
    if blocks is not None or until_mape is not None:
        from jmsnas.cli.profile_few_shot import print_few_shot, profile_few_shot, until_mape_document
        from jmsnas.estimators.few_shot.plan import make_few_shot_plan

        few = make_few_shot_plan(plan, blocks, until_mape)
    planned: dict[str, Any] = plan_document(few.as_plan if few else plan, keys, place, budget_s)
    if few:
        planned |= until_mape_document(few)
    if dry_run:
        print_json(planned) if as_json else print_plan(planned)
        return
    for line in plan_lines(device for device in planned["devices"] if device["measured_here"]):
        log(line)
    documents = []
    for name in devices:
        if name in away:
            log(f"{name}: its agent measures")
        with progress_bar() as progress:
            # Cached: the jobs of a device repeat the same warnings.
            options = ProfileOptions(seed=seed, budget_s=budget_s, progress=progress, warn=cache(warn))
            if name in away:
                profile = partial(profile_by_agent, name, workspace=place)
            else:
                profile = partial(profile_device, name, workspace=place, measured_only=measured_only)
            if few:
                found, sure = profile_few_shot(few, name, keys[name], place, profile, options)
            else:
                found, sure = profile(plan.subjects, keys[name], options=options), []
        if found.table.simulated:
            warn_simulated([name])
        documents.append({**device_document(found, keys[name]), "few": sure})
    if as_json:
        print_json({"space": space, "devices": documents})
        return
    for document in documents:
        print_device(document)
        if few:
            print_few_shot(document["few"])
    print(f"\nNext: {'jmsnas search --topology chain' if few else 'jmsnas fit-estimator'}")
