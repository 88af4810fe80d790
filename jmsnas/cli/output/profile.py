"""Results of `jmsnas profile`: the plan and the latency tables, as JSON documents and as printed text."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from jmsnas.cli.terminal import print_line
from jmsnas.errors import TableError
from jmsnas.estimators.networks.sum_correction import table_correction
from jmsnas.profiler.host.environment import is_this_host
from jmsnas.profiler.plan import ProfilePlan, max_duration_s
from jmsnas.profiler.profile import BUDGET_PER_BLOCK_S, ProfileResult
from jmsnas.profiler.table.latency_table import TRUST_LEVELS, LatencyTable, RuntimeKey
from jmsnas.profiler.table.noise_floor import noise_floor
from jmsnas.profiler.table.parquet import read_table
from jmsnas.profiler.timing.energy import find_meter
from jmsnas.units import format_duration
from jmsnas.workspace import Workspace

# Time to load torch in a process, and to export a block, on two server cores; less when cached.
_START_S, _EXPORT_S = 5.0, 0.3


def plan_document(
    plan: ProfilePlan,
    keys_by_device: Mapping[str, Sequence[RuntimeKey]],
    workspace: Workspace,
    budget_s: float | None,
    agents: Mapping[str, str],
) -> dict[str, Any]:
    """Describe what a profile would measure: the groups, and per device the missing rows and the duration.

    `agents` are the addresses of the devices that an agent measures.
    """
    found = []
    for device, keys in keys_by_device.items():
        table: LatencyTable | None
        try:
            table = read_table(workspace.table(device))
        except TableError:  # missing, or handled by the profile itself
            table = None
        missing = [plan.missing(table, key) for key in keys]
        here, agent = is_this_host(device), agents.get(device)
        export_s = sum(_EXPORT_S * n for n, key in zip(missing, keys, strict=True) if key.runtime != "torch")
        found.append(
            {
                "device": device,
                "measured_here": here,
                "agent": agent,
                "missing": {key.label: count for key, count in zip(keys, missing, strict=True)},
                "at_most_s": max_duration_s(missing, BUDGET_PER_BLOCK_S, budget_s, _START_S) + export_s
                if here or agent
                else 0.0,
            }
        )
    return {
        "groups": [{"name": name, "rows": len(group)} for name, group in plan.groups],
        "rows": len(plan.subjects),
        "devices": found,
        "target_half_width": 0.01,
    }


def plan_lines(devices: Iterable[dict[str, Any]]) -> list[str]:
    """Format one line per device with missing rows."""
    found = []
    for device in devices:
        missing = ", ".join(f"{count} in {label}" for label, count in device["missing"].items() if count)
        if missing and (device["measured_here"] or device["agent"]):
            agent = f" by its agent at {device['agent']}" if device["agent"] else ""
            found.append(
                f"{device['device']}: to measure {missing}{agent}; "
                f"about {_minutes(device['at_most_s'])} at most"
            )
        elif missing:
            found.append(f"{device['device']}: not this host, so to simulate {missing}")
    return found


def print_plan(document: dict[str, Any]) -> None:
    """Print the document of `plan_document`."""
    for group in document["groups"]:
        print_line(f"{group['rows']:>5}  {group['name']}")
    print_line(f"{document['rows']:>5}  rows per runtime", "")
    print_line(*(plan_lines(document["devices"]) or ["nothing is missing"]))
    if "until_mape" in document:
        print_line(
            f"then up to {document['more_blocks']} more, the most informative first, until the error of U(.) "
            f"on unseen layers is {100 * document['until_mape']:.3g} %: at most "
            f"{_minutes(document['more_at_most_s'])} per runtime"
        )
    print_line(
        "",
        f"A block is finished when the 95 % interval of its ratio is within "
        f"{document['target_half_width']:.0%}, or when its time is spent. Nothing was measured.",
    )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def device_document(profiled: ProfileResult, requested: Sequence[RuntimeKey]) -> dict[str, Any]:
    """Describe the latency table of one device; `requested` are the keys of this command."""
    from jmsnas.profiler.simulation.roofline import evidence_lines

    keys = []
    for key in profiled.table.keys:
        of = profiled.table.for_key(key)
        fastest, slowest = (choose(of.rows, key=lambda row: row.median_s) for choose in (min, max))
        floor = noise_floor(row for row in of.all_rows if row.kind == "measured")
        energies = [row.energy_j for row in of.rows if row.energy_j is not None]
        keys.append(
            {
                "key": key.label,
                "kind": of.rows[0].kind,
                "rows": len(of.rows),
                "parts": len(of.parts),
                "converged": sum(row.converged for row in of.rows) / len(of.rows),
                "half_width": median(row.half_width for row in of.rows),
                "relative_ci": median(row.relative_ci for row in of.rows),
                "trust": {mark: Counter(row.trust for row in of.rows)[mark] for mark in TRUST_LEVELS},
                "main_trust_reason": _most_common(
                    [row.trust_reason for row in of.rows if row.trust != "green"]
                ),
                "repeated": floor.rows if floor else 0,
                "gap_median": floor.median_gap if floor else None,
                "gap_p90": floor.p90_gap if floor else None,
                "fastest": str(fastest.block),
                "fastest_s": fastest.median_s,
                "slowest": str(slowest.block),
                "slowest_s": slowest.median_s,
                "energy_j": median(energies) if energies else None,
                "sum_correction": asdict(line) if (line := table_correction(of)) else None,
            }
        )
    runtimes = list(dict.fromkeys(key.runtime for key in requested))
    return {
        "device": profiled.table.device,
        "outcome": profiled.outcome,
        "table": str(profiled.path),
        "keys": keys,
        "evidence": list(evidence_lines(profiled.table.device, runtimes)) if profiled.table.simulated else [],
        "provider": profiled.provider,
        "meter": _meter_line(requested) if profiled.outcome == "measured" else "",
    }


def _most_common(reasons: Sequence[str]) -> str:
    # The text before the first comma or colon has no numbers, which differ from row to row.
    kinds = Counter(reason.partition(",")[0].partition(":")[0] for reason in reasons)
    return kinds.most_common(1)[0][0] if kinds else ""


def _meter_line(requested: Sequence[RuntimeKey]) -> str:
    meter = find_meter(requested[0].processor)
    return meter if isinstance(meter, str) else f"energy by {meter.name}: {meter.counts}"


def print_device(document: dict[str, Any]) -> None:
    """Print the document of `device_document`."""
    print_line(f"{document['device']}: {document['outcome']}, {document['table']}")
    for key in document["keys"]:
        print_line(
            f"  {key['key']:<24} {key['rows']:>4} rows  {_precision(key)}  "
            f"{format_duration(key['fastest_s'])} ({key['fastest']}) to "
            f"{format_duration(key['slowest_s'])} ({key['slowest']})"
        )
        if key["kind"] == "measured":
            print_line(f"    {_trust(key)}")
            print_line(f"    {_repeated(key)}")
            if key["sum_correction"]:
                print_line(f"    {correction_text(key['sum_correction'])}")
    provider = document["provider"] and f"timed by its agent with onnxruntime's {document['provider']}"
    for line in (*document["evidence"], provider, document["meter"]):
        if line:
            print_line(f"  {line}")


def _precision(key: dict[str, Any]) -> str:
    if key["kind"] != "measured":
        return "SIMULATED"
    return f"{key['converged']:4.0%} within 1 %, CI half-width {key['half_width']:.2%}"


def _trust(key: dict[str, Any]) -> str:
    marks = ", ".join(f"{count} {mark}" for mark, count in key["trust"].items() if count)
    return f"trust: {marks}" + (f" (mostly: {key['main_trust_reason']})" if key["main_trust_reason"] else "")


def _repeated(key: dict[str, Any]) -> str:
    if not key["repeated"]:
        return "noise floor unknown: no block was measured in a second process"
    return (
        f"noise floor: {key['repeated']} blocks differ by {key['gap_median']:.2%} in a second process "
        f"(median), {key['gap_p90']:.2%} (90th percentile); intervals widened to {key['relative_ci']:.2%}"
    )


def correction_text(line: dict[str, Any]) -> str:
    """Format the document of a `SumCorrection`."""
    way = "above" if line["gap"] > 0 else "below"
    return (
        f"{line['parts']} whole models: sums of blocks are {abs(line['gap']):.1%} {way} them, "
        f"{line['error']:.1%} error after correction"
    )
