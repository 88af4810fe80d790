"""What `jmsnas profile` says: the plan before it starts, and what each table holds after it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from jmsnas.errors import TableError
from jmsnas.estimators.networks.sum_correction import table_correction
from jmsnas.profiler.host.environment import is_this_host
from jmsnas.profiler.plan import ProfilePlan, max_duration_s
from jmsnas.profiler.profile import BUDGET_PER_BLOCK_S, ProfileResult
from jmsnas.profiler.table.latency_table import TRUST_LEVELS, LatencyTable, RuntimeKey
from jmsnas.profiler.table.noise_floor import noise_floor
from jmsnas.profiler.table.parquet import read_table
from jmsnas.profiler.timing.energy import find_meter, no_meter_reason
from jmsnas.units import format_duration
from jmsnas.workspace import Workspace

# What a process takes to load torch, and an export a block, on two cores of a server; less when it is cached.
_START_S, _EXPORT_S = 5.0, 0.3


def plan_document(
    plan: ProfilePlan, asked: Mapping[str, Sequence[RuntimeKey]], workspace: Workspace, budget_s: float | None
) -> dict[str, Any]:
    """Describe what a sweep would measure: the groups, and what each device lacks and how long that takes.

    `asked` has the keys of each device.
    """
    found = []
    for device, keys in asked.items():
        table: LatencyTable | None
        try:
            table = read_table(workspace.table(device))
        except TableError:  # there is none yet, or one that the sweep itself sets aside or refuses
            table = None
        missing = [plan.missing(table, key) for key in keys]
        here = is_this_host(device)
        export_s = sum(_EXPORT_S * n for n, key in zip(missing, keys, strict=True) if key.runtime != "torch")
        found.append(
            {
                "device": device,
                "measured_here": here,
                "missing": {key.label: count for key, count in zip(keys, missing, strict=True)},
                "at_most_s": max_duration_s(missing, BUDGET_PER_BLOCK_S, budget_s, _START_S) + export_s
                if here
                else 0.0,
            }
        )
    return {
        "groups": [{"what": what, "rows": len(group)} for what, group in plan.groups],
        "rows": len(plan.subjects),
        "devices": found,
        "target_half_width": 0.01,
    }


def plan_lines(devices: Iterable[dict[str, Any]]) -> list[str]:
    """Give a line for each of a plan's devices that has anything missing."""
    found = []
    for device in devices:
        missing = ", ".join(f"{count} in {label}" for label, count in device["missing"].items() if count)
        if missing and device["measured_here"]:
            found.append(
                f"{device['device']}: to measure {missing}; about {_minutes(device['at_most_s'])} at most"
            )
        elif missing:
            found.append(f"{device['device']}: not this host, so to simulate {missing}")
    return found


def print_plan(document: dict[str, Any]) -> None:
    """Print what `plan_document` gave."""
    for group in document["groups"]:
        print(f"{group['rows']:>5}  {group['what']}")
    print(f"{document['rows']:>5}  rows a run time\n")
    print("\n".join(plan_lines(document["devices"]) or ["nothing is missing"]))
    if "until_mape" in document:
        print(
            f"then more, those that teach most first, until U(.) is {100 * document['until_mape']:.3g} % off "
            f"on layers it never saw: {document['more_blocks']} at most, "
            f"{_minutes(document['more_at_most_s'])} a run time"
        )
    print(
        f"\nA block is done when its ratio is known within {document['target_half_width']:.0%} (95 %); "
        "at the end of the time it is kept with the width it has. Nothing was measured."
    )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def device_document(found: ProfileResult, asked: Sequence[RuntimeKey]) -> dict[str, Any]:
    """Describe the table of one device as it is now; `asked` are the keys of this call."""
    from jmsnas.profiler.simulation.roofline import evidence_lines

    keys = []
    for key in found.table.keys:
        of = found.table.for_key(key)
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
                "doubt": median(row.relative_ci for row in of.rows),
                "trust": {mark: Counter(row.trust for row in of.rows)[mark] for mark in TRUST_LEVELS},
                "distrust": _commonest([row.trust_reason for row in of.rows if row.trust != "green"]),
                "repeated": floor.rows if floor else 0,
                "gap_median": floor.median_gap if floor else None,
                "gap_p90": floor.p90_gap if floor else None,
                "fastest": str(fastest.block),
                "fastest_s": fastest.median_s,
                "slowest": str(slowest.block),
                "slowest_s": slowest.median_s,
                "energy_j": median(energies) if energies else None,
                "sums": asdict(line) if (line := table_correction(of)) else None,
            }
        )
    runtimes = list(dict.fromkeys(key.runtime for key in asked))
    return {
        "device": found.table.device,
        "outcome": found.outcome,
        "table": str(found.path),
        "keys": keys,
        "evidence": list(evidence_lines(found.table.device, runtimes)) if found.table.simulated else [],
        "meter": _meter_line(asked) if found.outcome == "measured" else "",
    }


def _commonest(reasons: Sequence[str]) -> str:
    # Numbers differ from row to row: the words before the first one tell the kind.
    kinds = Counter(reason.partition(",")[0].partition(":")[0] for reason in reasons)
    return kinds.most_common(1)[0][0] if kinds else ""


def _meter_line(asked: Sequence[RuntimeKey]) -> str:
    processor = asked[0].processor
    meter = find_meter(processor)
    return f"energy by {meter.name}: {meter.counts}" if meter else no_meter_reason(processor)


def print_device(document: dict[str, Any]) -> None:
    """Print what `device_document` gave."""
    print(f"{document['device']}: {document['outcome']}, {document['table']}")
    for key in document["keys"]:
        print(
            f"  {key['key']:<24} {key['rows']:>4} rows  {_certainty(key)}  "
            f"{format_duration(key['fastest_s'])} ({key['fastest']}) to "
            f"{format_duration(key['slowest_s'])} ({key['slowest']})"
        )
        if key["kind"] == "measured":
            print(f"    {_trust(key)}")
            print(f"    {_repeated(key)}")
            if key["sums"]:
                print(f"    {correction_text(key['sums'])}")
    for line in (*document["evidence"], document["meter"]):
        if line:
            print(f"  {line}")


def _certainty(key: dict[str, Any]) -> str:
    if key["kind"] != "measured":
        return "SIMULATED"
    return f"{key['converged']:4.0%} within 1 %, half width {key['half_width']:.2%}"


def _trust(key: dict[str, Any]) -> str:
    marks = ", ".join(f"{count} {mark}" for mark, count in key["trust"].items() if count)
    return f"trust: {marks}" + (f" (mostly: {key['distrust']})" if key["distrust"] else "")


def _repeated(key: dict[str, Any]) -> str:
    if not key["repeated"]:
        return "noise floor unknown: nothing was measured in a second process"
    return (
        f"noise floor: {key['repeated']} blocks in a second process, {key['gap_median']:.2%} apart (median), "
        f"{key['gap_p90']:.2%} (90th percentile); intervals widened to {key['doubt']:.2%}"
    )


def correction_text(line: dict[str, Any]) -> str:
    """Say what a `SumCorrection` is, given as a document."""
    way = "above" if line["gap"] > 0 else "below"
    return (
        f"{line['parts']} whole networks: sums of blocks lie {abs(line['gap']):.1%} {way} them, "
        f"{line['error']:.1%} off once corrected by them"
    )
