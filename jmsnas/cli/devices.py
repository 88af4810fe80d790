"""`jmsnas devices`: list known devices, with the age and quality of their latency tables."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.terminal import one_line_errors, print_json, print_line
from jmsnas.origin import origin_label
from jmsnas.workspace import Workspace

if TYPE_CHECKING:
    from jmsnas.profiler.table.latency_table import BlockRow

_HELP = """List all built-in, profiled and published devices, with the age and quality of their tables.

[bold]Examples[/bold]

  jmsnas devices

  jmsnas devices --workspace elsewhere --json

Next: jmsnas profile --device NAME, or with a published table: jmsnas fit-estimator --table FILE
"""


@app.command("devices", help=_HELP)
@one_line_errors
def devices_command(folder: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Parse, describe, print."""
    from jmsnas.deploy.doctor import check_agents

    workspace = Workspace(folder)
    document = describe_devices(workspace, datetime.now(UTC))
    document["agents"] = [asdict(result) for result in check_agents(workspace)]
    if as_json:
        print_json(document)
        return
    host = document["host"]
    print_line(
        f"This host: {host['cpu'] or 'unknown processor'}, {host['cores']} cores; {', '.join(host['is'])}"
    )
    for device in document["devices"]:
        here = "  (this host)" if device["this_host"] else ""
        print_line(f"{device['device']:<12}  {origin_label(device['kind'])}{here}")
        if "problem" in device:
            print_line(f"  {device['problem']}")
        for key in device["keys"]:
            print_line(f"  {_line(key, device['kind'])}")
        for key in device["published"]:
            line = f"{key['key']:<24} {key['rows']:>4} rows  {key['setting']}"
            unused = ", not used: the device has a table here" * key["overruled"]
            print_line(f"  {line}; {_from(key['sources'])}{unused}")
    for agent in document["agents"]:
        state = "" if agent["level"] == "ok" else "not usable: "
        remedy = f" ({agent['remedy']})" if agent["remedy"] else ""
        print_line(f"{agent['what']}: {state}{agent['words']}{remedy}")


def describe_devices(workspace: Workspace, now: datetime) -> dict[str, Any]:
    """Describe all known devices as one JSON document; a table that cannot be read is described, not raised.

    Returns `host` (cpu, cores, the built-in devices it `is`) and `devices`, each with its `kind` (measured,
    simulated, imported, published, mixed, not profiled, unreadable, or other processor: rows of a CPU under
    the name of a GPU) and, for each key, rows, age_days (of the oldest row at `now`), converged (a share),
    half_width (the median, a share), green (the share of rows of trust level green) and noise_floor (the
    median gap between processes, a share); None if not measured.
    `published` describes U(.) of published tables: key, rows, setting, sources, and whether a table of the
    workspace overrules it.
    """
    import os

    from jmsnas.profiler.host.environment import cpu_model, is_this_host
    from jmsnas.profiler.simulation.roofline import simulated_device_names

    known = ("local", *simulated_device_names())
    published = _published(workspace)
    names = dict.fromkeys((*known, *workspace.tables, *published))
    host = {"cpu": cpu_model(), "cores": os.cpu_count(), "is": [name for name in known if is_this_host(name)]}
    devices = [_device(workspace, name, is_this_host(name), now) for name in names]
    for device in devices:
        found = published.get(device["device"], [])
        own = device["kind"] not in ("not profiled", "simulated")
        device["published"] = [key | {"overruled": own} for key in found]
        if found and not own:
            device["kind"] = "published"
    return {"host": host, "devices": devices}


def _published(workspace: Workspace) -> dict[str, list[dict[str, Any]]]:
    """Describe the published tables that U(.) was fitted to, by device."""
    from jmsnas.errors import InputError
    from jmsnas.estimators.published.table import read_published
    from jmsnas.estimators.store.layout import TABLE, estimator_folders, fitted_devices, is_published

    found: dict[str, list[dict[str, Any]]] = {}
    for name in fitted_devices(workspace):
        for folder in filter(is_published, estimator_folders(workspace, name)):
            try:
                tables = read_published(folder / TABLE)
            except InputError:  # reported by the commands that use the estimator
                continue
            found.setdefault(name, []).extend(
                {"key": folder.name, "rows": len(t.shapes), "setting": str(t.origin), "sources": [*t.sources]}
                for t in tables
            )
    return found


def _from(sources: Sequence[str]) -> str:
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return f"from {sources[0]}{more}" if sources else "source not given"


def _device(workspace: Workspace, name: str, this_host: bool, now: datetime) -> dict[str, Any]:
    from jmsnas.errors import InputError
    from jmsnas.estimators.lookup import cpu_rows_of_gpu
    from jmsnas.profiler.table.parquet import read_table

    document: dict[str, Any] = {"device": name, "kind": "not profiled", "this_host": this_host, "keys": []}
    if name not in workspace.tables:
        return document
    try:
        table = read_table(workspace.table(name))
    except InputError as error:
        return document | {"kind": "unreadable", "problem": str(error)}
    if problem := cpu_rows_of_gpu(name, table):
        return document | {"kind": "other processor", "problem": problem}
    kinds = {row.kind for row in table.rows}
    document["kind"] = kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "not profiled"
    document["keys"] = [_key(key.label, table.for_key(key).rows, now) for key in table.keys]
    return document


def _key(label: str, rows: Sequence["BlockRow"], now: datetime) -> dict[str, Any]:
    from statistics import median

    from jmsnas.profiler.table.noise_floor import noise_floor

    measured = [row for row in rows if row.kind == "measured"]
    ages = [age for row in rows if (age := _age_days(row.measured_at, now)) is not None]
    return {
        "key": label,
        "rows": len(rows),
        "measured": len(measured),
        "age_days": max(ages, default=None),
        "converged": sum(row.converged for row in measured) / len(measured) if measured else None,
        "half_width": median(row.half_width for row in measured) if measured else None,
        "green": sum(row.trust == "green" for row in measured) / len(measured) if measured else None,
        "noise_floor": floor.median_gap if (floor := noise_floor(measured)) else None,
    }


def _age_days(measured_at: str, now: datetime) -> float | None:
    # The date is free text: it may be invalid, or in the future.
    try:
        then = datetime.fromisoformat(measured_at)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (now - then).total_seconds() / 86400)


def _line(key: dict[str, Any], kind: str) -> str:
    age = "unknown" if key["age_days"] is None else f"{key['age_days']:.1f} days"
    line = f"{key['key']:<24} {key['rows']:>4} rows  age {age}"
    if key["converged"] is None:
        return f"{line}  {'measured by others' if kind == 'imported' else 'from published figures'}"
    floor = "unknown" if key["noise_floor"] is None else f"{key['noise_floor']:.2%}"
    return (
        f"{line}  {key['converged']:4.0%} within 1 %, CI half-width {key['half_width']:.2%}, "
        f"noise floor {floor}, {key['green']:.0%} green"
    )
