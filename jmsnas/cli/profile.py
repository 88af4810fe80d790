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
    warn,
    warn_simulated,
    workspace,
)

_EXAMPLES = """Measure every block of a search space on a device, into tables/DEVICE.parquet.

The same command again goes on where it was stopped. A device that is not at hand is SIMULATED, and says so.

[bold]Examples[/bold]

  jmsnas profile                                  this host, both run times

  jmsnas profile --runtime onnxruntime            only the one that will serve

  jmsnas profile --space imagenet --budget 5m     longer: 5 min a run time

  jmsnas profile --device pi4 --device jetson     two devices in turn

  jmsnas profile --device jetson --measured-only  refuse to simulate

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
    budget: Annotated[
        str | None, typer.Option("--budget", help="Sampling time a run time, as 60s. Default: 0.6 s a block.")
    ] = None,
    measured_only: Annotated[
        bool, typer.Option("--measured-only", help="Refuse a device that this host is not.")
    ] = False,
    seed: SeedOption = 0,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, profile each device, print."""
    from jmsnas.profiler.table import RUNTIMES, Key
    from jmsnas.space_file import load_space
    from jmsnas.units import parse_duration

    place, devices = workspace(folder), list(dict.fromkeys(device or ["local"]))
    budget_s = parse_duration(budget) if budget is not None else None
    keys = [Key(name, threads) for name in dict.fromkeys(runtime or RUNTIMES)]
    blocks = load_space(space, place.spaces).blocks()

    from jmsnas.profiler.sweep import profile_device

    documents = []
    for name in devices:
        with progress_bar() as progress:
            found = profile_device(
                name,
                blocks,
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
        documents.append(_document(found))
    if as_json:
        print_json({"space": space, "devices": documents})
        return
    for document in documents:
        _print(document)
    print("\nNext: jmsnas fit-estimator")


def _document(found: Any) -> dict[str, Any]:
    from statistics import median

    keys = []
    for key in found.table.keys:
        rows = found.table.of(key).rows
        fastest, slowest = (choose(rows, key=lambda row: row.median_s) for choose in (min, max))
        keys.append(
            {
                "key": key.label,
                "kind": rows[0].kind,
                "rows": len(rows),
                "converged": sum(row.converged for row in rows) / len(rows),
                "half_width": median(row.half_width for row in rows),
                "fastest": str(fastest.block),
                "fastest_s": fastest.median_s,
                "slowest": str(slowest.block),
                "slowest_s": slowest.median_s,
            }
        )
    return {
        "device": found.table.device,
        "outcome": found.outcome,
        "table": str(found.path),
        "keys": keys,
    }


def _print(document: dict[str, Any]) -> None:
    from jmsnas.units import format_duration

    print(f"{document['device']}: {document['outcome']}, {document['table']}")
    for key in document["keys"]:
        certainty = (
            f"{key['converged']:4.0%} within 1 %, half width {key['half_width']:.2%}"
            if key["kind"] == "measured"
            else "SIMULATED"
        )
        print(
            f"  {key['key']:<24} {key['rows']:>4} rows  {certainty}  "
            f"{format_duration(key['fastest_s'])} ({key['fastest']}) to "
            f"{format_duration(key['slowest_s'])} ({key['slowest']})"
        )
