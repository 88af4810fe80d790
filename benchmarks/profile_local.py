"""Profile a whole space on this host: time, certainty, repeatability, and what kill -9 loses.

    python benchmarks/profile_local.py                  table of figures, in about 5 minutes
    python benchmarks/profile_local.py --check          exit 1 where a bar is missed
    python benchmarks/profile_local.py --kills 0        without the kills

Every sweep is a process of its own, as a user's is. The kills hit one sweep in onnxruntime (warm cache).
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from jmsnas.files import write_json
from jmsnas.profiler.host.environment import describe_host
from jmsnas.profiler.table.journal import journal_path, read_journal
from jmsnas.profiler.table.latency_table import RUNTIMES, AnyRow, BlockRow
from jmsnas.profiler.table.parquet import read_table
from jmsnas.profiler.table.schema import row_from_record
from jmsnas.profiler.table.trust import is_disturbed
from jmsnas.workspace import Workspace

SECONDS_BAR, SHARE_BAR = 90.0, 0.95


def sweep(workspace: Workspace, space: str, runtime: str) -> subprocess.Popen[bytes]:
    words = ["profile", "--space", space, "--runtime", runtime, "--workspace", str(workspace.folder)]
    program = [sys.executable, "-c", "from jmsnas.cli import app; app()", *words]
    return subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed_sweep(workspace: Workspace, space: str, runtime: str) -> float:
    began = time.monotonic()
    if sweep(workspace, space, runtime).wait():
        raise SystemExit(f"jmsnas profile --runtime {runtime} failed: run it by hand to see why")
    return time.monotonic() - began


def rows_of(workspace: Workspace, runtime: str) -> dict[Any, BlockRow]:
    return {row.block: row for row in read_table(workspace.table("local")).rows if row.key.runtime == runtime}


def measure_runtime(folder: Path, space: str, runtime: str) -> dict[str, Any]:
    """Sweep with a cold cache, then once more into another table, and compare."""
    places = Workspace(folder / f"{runtime}-1"), Workspace(folder / f"{runtime}-2")
    seconds = [timed_sweep(place, space, runtime) for place in places]
    first, second = (rows_of(place, runtime) for place in places)
    widths = np.array([row.half_width for row in first.values()])
    gaps = np.array([abs(row.ratio / second[block].ratio - 1) for block, row in first.items()])
    return {
        "runtime": runtime,
        "rows": len(first),
        "seconds": max(seconds),
        "within_1_percent": float((widths <= 0.01).mean()),
        "within_2_percent": float((widths <= 0.02).mean()),
        "widened": float(np.median([row.relative_ci for row in first.values()])),
        "trusted": float(np.mean([row.trust == "green" for row in first.values()])),
        "replicate_gap_median": float(np.median(gaps)),
        "replicate_gap_p90": float(np.quantile(gaps, 0.9)),
    }


def kept_rows(workspace: Workspace) -> dict[Any, AnyRow]:
    """Every finished row on disk, in the table or in the journal; both must be readable."""
    path = workspace.table("local")
    rows = list(read_table(path).all_rows) if path.exists() else []
    journal = read_journal(journal_path(path))
    if journal.broken_line:
        raise SystemExit(f"line {journal.broken_line} of the journal is damaged")
    rows += [row_from_record(record["row"]) for record in journal.records if "row" in record]
    return {(row.key, row.block): row for row in rows}


def is_lost(before: AnyRow, after: AnyRow | None) -> bool:
    """Whether samples are gone that no later, undisturbed measurement took the place of."""
    if after is None:
        return True
    kept = set(before.samples) <= set(after.samples) or set(after.samples) <= set(before.samples)
    return not kept and not is_disturbed(before)


def kill_at_random(folder: Path, space: str, kills: int, seed: int) -> dict[str, Any]:
    """Kill sweeps at random moments; each goes on where the last was killed.

    A sweep that ends by itself is followed by one into a new workspace, so that every kill meets work.
    """
    generator, lost, done, rounds = random.Random(seed), 0, 0, 0
    cache = folder / "onnxruntime-1" / "cache"
    place, before = Workspace(folder / "kills-0"), dict[Any, AnyRow]()
    whole_s = timed_sweep(linked(folder / "kills-warm", cache), space, "onnxruntime")
    place = linked(folder / "kills-0", cache)
    most = 0
    while done < kills:
        child = sweep(place, space, "onnxruntime")
        time.sleep(generator.uniform(0.05, 1.0) * whole_s)
        child.kill()
        ended = child.wait() == 0
        now = kept_rows(place)
        lost += sum(is_lost(row, now.get(block)) for block, row in before.items())
        before, most = now, max(most, len(now))
        if ended:
            rounds += 1
            place, before = linked(folder / f"kills-{rounds}", cache), {}
        else:
            done += 1
    return {"kills": done, "rows_lost": lost, "most_rows_kept": most}


def linked(folder: Path, cache: Path) -> Workspace:
    """Make a workspace that shares the exported models, so that kills meet measuring and not export."""
    folder.mkdir(parents=True)
    (folder / "cache").symlink_to(cache.resolve())
    return Workspace(folder)


def report(document: dict[str, Any]) -> list[str]:
    """Print the figures, and give the bars that were missed."""
    print(f"space {document['space']} on {document['environment'].get('cpu', 'this host')}")
    names = ("run time", "rows", "seconds", "<= 1 %", "<= 2 %", "gap", "p90", "widened", "green")
    print("{:<12} {:>4} {:>8} {:>7} {:>7} {:>6} {:>6} {:>8} {:>6}".format(*names))
    missed = []
    for found in document["runtimes"]:
        print(
            f"{found['runtime']:<12} {found['rows']:>4} {found['seconds']:>8.1f} "
            f"{found['within_1_percent']:>7.1%} {found['within_2_percent']:>7.1%} "
            f"{found['replicate_gap_median']:>6.2%} {found['replicate_gap_p90']:>6.2%} "
            f"{found['widened']:>8.2%} {found['trusted']:>6.0%}"
        )
        if found["seconds"] > SECONDS_BAR:
            missed.append(f"{found['runtime']}: {found['seconds']:.1f} s, expected <= {SECONDS_BAR:g} s")
        if found["within_2_percent"] < SHARE_BAR:
            missed.append(f"{found['runtime']}: {found['within_2_percent']:.1%} of rows within 2 %")
    kills = document["kills"]
    print(f"kill -9: {kills['kills']} times, {kills['rows_lost']} rows lost, every table readable")
    if kills["rows_lost"]:
        missed.append(f"{kills['rows_lost']} finished rows lost")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="digits")
    parser.add_argument("--workspace", type=Path, help="an empty folder; a temporary one by default")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.workspace or Path(temporary)
        if folder.exists() and any(folder.iterdir()):
            raise SystemExit(f"{folder} is not empty: the first sweep must meet a cold cache")
        document: dict[str, Any] = {
            "space": given.space,
            "environment": describe_host(),
            "runtimes": [measure_runtime(folder, given.space, runtime) for runtime in RUNTIMES],
            "kills": {"kills": 0, "rows_lost": 0},
        }
        if given.kills:
            document["kills"] = kill_at_random(folder, given.space, given.kills, given.seed)
    missed = report(document)
    if given.json:
        write_json(given.json, document)
    for line in missed:
        print(f"MISSED {line}")
    if given.check and missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
