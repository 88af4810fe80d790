"""`jmsnas profile --model`: the units of one network, timed one by one on this host."""

from typing import Any

from jmsnas.cli.terminal import progress_bar, warn
from jmsnas.errors import DeviceError
from jmsnas.units import format_duration as ms
from jmsnas.workspace import Workspace


def profile_model(
    name: str, size: int, device: str, workspace: Workspace, budget_s: float | None, threads: int, seed: int
) -> dict[str, Any]:
    """Measure a network's own units here; gives what is printed.

    Raises
    ------
    DeviceError
        For a device that this host is not.
    InputError
        For a network nobody knows.
    """
    from jmsnas.nas.load_model import load_model
    from jmsnas.profiler.host.environment import is_this_host

    if device != "local" and not is_this_host(device):
        raise DeviceError(
            f"this host is not {device}: a network's own units are measured where they run. Type the same on "
            f"{device}, or leave out --device"
        )
    model = load_model(workspace, name, size)
    with progress_bar() as progress:
        if all(unit.block for unit in model.units):
            from jmsnas.profiler.profile import ProfileOptions, profile_device
            from jmsnas.profiler.table.latency_table import RuntimeKey

            blocks = tuple(dict.fromkeys(unit.block for unit in model.units if unit.block))
            keys = [RuntimeKey("onnxruntime", threads), RuntimeKey("torch", threads)]
            options = ProfileOptions(seed=seed, budget_s=budget_s, progress=progress, warn=warn)
            found = profile_device(device, blocks, keys, workspace, options)
            rows = [row for row in found.table.rows if row.block in set(blocks)]
            return {
                "model": name,
                "device": device,
                "units": model.N,
                "converged": sum(row.converged for row in rows),
                "rows": len(rows),
                "file": str(workspace.table(device)),
            }
        from jmsnas.nas.graph.unit_profile import profile_path
        from jmsnas.nas.graph.unit_timing import profile_units

        profile = profile_units(model, workspace, device, budget_s or 60.0, threads, seed, progress)
    return {
        "model": name,
        "device": device,
        "units": model.N,
        "converged": profile.converged,
        "sum_s": sum(profile.median_s),
        "whole_s": profile.whole_s,
        "runtime": profile.runtime,
        "file": str(profile_path(workspace, device, model, profile.runtime)),
    }


def print_model(document: dict[str, Any]) -> None:
    """Print what `profile_model` gave."""
    print(f"{document['model']} on {document['device']}: {document['units']} units, in {document['file']}")
    if "rows" in document:
        print(f"  {document['rows']} rows of its blocks, {document['converged']} within 1 %")
    else:
        print(
            f"  {document['converged']} within 1 %; their sum {ms(document['sum_s'])}, the whole as one call "
            f"{ms(document['whole_s'])} ({document['runtime']})"
        )
    print(f"\nNext: jmsnas split {document['model']} --topology desk")
