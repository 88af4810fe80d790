"""`jmsnas profile --model`: measure the units of one model on this host."""

from dataclasses import fields
from typing import Any

from jmsnas.cli.profile_arguments import ProfileArguments
from jmsnas.cli.terminal import print_json, print_line, progress_bar, warn
from jmsnas.errors import DeviceError, InputError
from jmsnas.units import format_duration as ms
from jmsnas.workspace import Workspace

# Options that --model respects, or that make no difference to it.
_OPTIONS = ("model", "device", "size", "budget", "threads", "seed", "measured_only", "folder", "as_json")


def profile_model_command(args: ProfileArguments, name: str) -> None:
    """Parse, measure, print."""
    document = profile_model(args, name)
    print_json(document) if args.as_json else print_model(document)


def profile_model(args: ProfileArguments, name: str) -> dict[str, Any]:
    """Measure the units of a model on this host: the blocks of its latency table, else a profile of its own.

    Raises DeviceError if this host is not the device, InputError for an unknown model or an option of blocks.
    """
    from jmsnas.nas.load_model import load_model
    from jmsnas.profiler.host.environment import is_this_host
    from jmsnas.profiler.simulation.roofline import cpu_name, processor_of
    from jmsnas.units import parse_duration

    _refuse_other_options(args)
    workspace, device = Workspace(args.folder), (args.device or ["local"])[0]
    budget_s = parse_duration(args.budget) if args.budget is not None else None
    if processor_of(device) != "cpu":
        raise DeviceError(
            f"{device} is the name of a GPU, and the units of a model are timed on the CPU: expected "
            f"--device {cpu_name(device)}, and that name in the topology"
        )
    if device != "local" and not is_this_host(device):
        raise DeviceError(
            f"this host is not {device}: the units of a model are measured on the device itself. Run the "
            f"same command on {device}, or leave out --device"
        )
    model = load_model(workspace, name, args.size)
    document = {"model": name, "device": device, "units": model.N}
    with progress_bar() as progress:
        if all(unit.block for unit in model.units):
            from jmsnas.profiler.profile import ProfileOptions, profile_device
            from jmsnas.profiler.table.latency_table import RuntimeKey

            blocks = tuple(dict.fromkeys(unit.block for unit in model.units if unit.block))
            keys = [RuntimeKey(runtime, args.threads) for runtime in ("onnxruntime", "torch")]
            options = ProfileOptions(seed=args.seed, budget_s=budget_s, progress=progress, warn=warn)
            table = profile_device(device, blocks, keys, workspace, options).table
            rows = [row for row in table.rows if row.block in set(blocks)]
            return document | {
                "converged": sum(row.converged for row in rows),
                "rows": len(rows),
                "file": str(workspace.table(device)),
            }
        from jmsnas.nas.graph.unit_profile import profile_path
        from jmsnas.nas.graph.unit_timing import profile_units

        profile = profile_units(model, workspace, device, budget_s or 60.0, args.threads, args.seed, progress)
    return document | {
        "converged": profile.converged,
        "sum_s": sum(profile.median_s),
        "whole_s": profile.whole_s,
        "runtime": profile.runtime,
        "file": str(profile_path(workspace, device, model, profile.runtime)),
    }


def _refuse_other_options(args: ProfileArguments) -> None:
    given = [
        f"--{option.name.replace('_', '-')}"
        for option in fields(ProfileArguments)
        if option.name not in _OPTIONS and getattr(args, option.name) != option.default
    ]
    if given or len(args.device or ()) > 1:
        raise InputError(
            f"got {' and '.join(given) or 'several --device'} with --model: expected one device, and only "
            "--size, --budget, --threads and --seed. Batch and dtype are those of the model"
        )


def print_model(document: dict[str, Any]) -> None:
    """Print the document of `profile_model`."""
    print_line(
        f"{document['model']} on {document['device']}: {document['units']} units, in {document['file']}"
    )
    if "rows" in document:
        print_line(f"  {document['rows']} rows of its blocks, {document['converged']} within 1 %")
    else:
        print_line(
            f"  {document['converged']} within 1 %; sum {ms(document['sum_s'])}, whole model as one call "
            f"{ms(document['whole_s'])} ({document['runtime']})"
        )
    print_line("", f"Next: jmsnas split {document['model']} --topology desk")
