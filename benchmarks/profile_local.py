"""Profile a whole space on this host: duration, interval widths, repeatability, and rows lost by kill -9.

    python benchmarks/profile_local.py                  table of figures, in about 5 minutes
    python benchmarks/profile_local.py --check          exit with 1 if a bar is missed
    python benchmarks/profile_local.py --kills 0        without the kills

Every run is a process of `jmsnas profile`. Runs in onnxruntime with a warm cache are killed.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import benchmark_parser, finish

from jmsnas.profiler.host.environment import cpu_model
from jmsnas.profiler.table.journal import journal_path, read_journal
from jmsnas.profiler.table.latency_table import RUNTIMES, AnyRow, BlockRow
from jmsnas.profiler.table.parquet import read_table
from jmsnas.profiler.table.schema import row_from_record
from jmsnas.profiler.table.trust import is_disturbed
from jmsnas.workspace import Workspace

SECONDS_BAR, SHARE_BAR = 90.0, 0.95


def start_profile(workspace: Workspace, space: str, runtime: str) -> subprocess.Popen[bytes]:
    argv = ["profile", "--space", space, "--runtime", runtime, "--workspace", str(workspace.folder)]
    program = [sys.executable, "-c", "from jmsnas.cli import app; app()", *argv]
    return subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed_profile(workspace: Workspace, space: str, runtime: str) -> float:
    began = time.monotonic()
    if start_profile(workspace, space, runtime).wait():
        raise SystemExit(f"jmsnas profile --runtime {runtime} failed: run it in a terminal to see the error")
    return time.monotonic() - began


def rows_of(workspace: Workspace, runtime: str) -> dict[Any, BlockRow]:
    return {row.block: row for row in read_table(workspace.table("local")).rows if row.key.runtime == runtime}


def measure_runtime(folder: Path, space: str, runtime: str) -> dict[str, Any]:
    """Profile twice, into two workspaces with cold caches, and compare the tables."""
    workspaces = Workspace(folder / f"{runtime}-1"), Workspace(folder / f"{runtime}-2")
    seconds = [timed_profile(workspace, space, runtime) for workspace in workspaces]
    first, second = (rows_of(workspace, runtime) for workspace in workspaces)
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
    """Read all finished rows on disk, from the table and the journal."""
    path = workspace.table("local")
    rows = list(read_table(path).all_rows) if path.exists() else []
    journal = read_journal(journal_path(path))
    if journal.broken_line:
        raise SystemExit(f"line {journal.broken_line} of the journal is damaged")
    rows += [row_from_record(record["row"]) for record in journal.records if "row" in record]
    return {(row.key, row.block): row for row in rows}


def is_lost(before: AnyRow, after: AnyRow | None) -> bool:
    """Whether samples are missing that were not replaced by a later, undisturbed measurement."""
    if after is None:
        return True
    kept = set(before.samples) <= set(after.samples) or set(after.samples) <= set(before.samples)
    return not kept and not is_disturbed(before)


def kill_at_random(folder: Path, space: str, kills: int, seed: int) -> dict[str, Any]:
    """Kill runs at random moments; each continues where the previous one was killed.

    A run that ends by itself is followed by one into a new workspace, so that every kill hits a running one.
    """
    generator, lost, done, rounds = random.Random(seed), 0, 0, 0
    cache = folder / "onnxruntime-1" / "cache"
    workspace, before = Workspace(folder / "kills-0"), dict[Any, AnyRow]()
    whole_s = timed_profile(linked(folder / "kills-warm", cache), space, "onnxruntime")
    workspace = linked(folder / "kills-0", cache)
    most = 0
    while done < kills:
        child = start_profile(workspace, space, "onnxruntime")
        time.sleep(generator.uniform(0.05, 1.0) * whole_s)
        child.kill()
        ended = child.wait() == 0
        now = kept_rows(workspace)
        lost += sum(is_lost(row, now.get(block)) for block, row in before.items())
        before, most = now, max(most, len(now))
        if ended:
            rounds += 1
            workspace, before = linked(folder / f"kills-{rounds}", cache), {}
        else:
            done += 1
    return {"kills": done, "rows_lost": lost, "most_rows_kept": most}


def linked(folder: Path, cache: Path) -> Workspace:
    """Make a workspace that shares the exported models, so that kills hit measurements and not exports."""
    folder.mkdir(parents=True)
    (folder / "cache").symlink_to(cache.resolve())
    return Workspace(folder)


def report(document: dict[str, Any]) -> list[str]:
    """Print the figures, and return the bars that are missed."""
    print(f"space {document['space']} on {cpu_model()}")
    names = ("runtime", "rows", "seconds", "<= 1 %", "<= 2 %", "gap", "p90", "widened", "green")
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
    parser = benchmark_parser(__doc__)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--workspace", type=Path, help="an empty folder; a temporary one by default")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.workspace or Path(temporary)
        if folder.exists() and any(folder.iterdir()):
            raise SystemExit(f"{folder} is not empty: the first run must have a cold cache")
        document: dict[str, Any] = {
            "space": arguments.space,
            "runtimes": [measure_runtime(folder, arguments.space, runtime) for runtime in RUNTIMES],
            "kills": {"kills": 0, "rows_lost": 0},
        }
        if arguments.kills:
            document["kills"] = kill_at_random(folder, arguments.space, arguments.kills, arguments.seed)
    missed = report(document)
    finish(arguments, document, missed)


if __name__ == "__main__":
    main()
