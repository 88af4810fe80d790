"""What certainty costs: ours, torchprof, adaptive_autorange and a fixed loop, their seconds and their errors.

    python benchmarks/profiler_cost.py                  table of figures, in about 15 minutes
    python benchmarks/profiler_cost.py --check          exit 1 where a bar is missed

The truth of a block is the median of 200 paired rounds in each of three fresh processes, median of the three.
Each method then sweeps the space in three fresh processes, between which the order of the methods turns, and
stops by its own rule: ours at 1 %, torchprof after 10 runs (eager torch only), torch.utils.benchmark's
adaptive_autorange at IQR / median < 0.1, the fixed loop after 50 calls. "loop, as long" is the fixed loop
with as many calls as fit into our seconds. Making blocks ready is not counted; it is the same for all.

A method's error is |its value / truth - 1| with the level taken out (the median over blocks of value /
truth): the host's speed jumps between processes for all methods alike. The errors with the level in stand
beside them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from jmsnas.errors import MeasurementError
from jmsnas.files import write_json
from jmsnas.profiler.host.environment import describe_host
from jmsnas.profiler.session.run_job import REFERENCE_COPIES
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, RUNTIMES, RuntimeKey
from jmsnas.profiler.table.measurement import Measurement
from jmsnas.profiler.timing.backends import pinned, prepare
from jmsnas.profiler.timing.paired_timing import TimedLoop, TimingConfig, measure
from jmsnas.space_file import load_space

SPACES = ("digits", "cifar")
TRUTH_ROUNDS, PROCESSES, TORCHPROF_RUNS, LOOP_CALLS = 200, 3, 10, 50
# Ours in at most a third of adaptive_autorange's seconds; at equal seconds half the fixed loop's p90 in eager
# torch, and no more than it in onnxruntime.
SECONDS_BAR, P90_BARS = 1 / 3, {"torch": 0.5, "onnxruntime": 1.0}
Values = list[float]


def paired(
    references: Sequence[TimedLoop], blocks: Sequence[TimedLoop], config: TimingConfig, seed: int
) -> Values:
    """Seconds of each block by paired rounds: the ratio times the reference's level."""
    found: dict[int, Measurement] = {}
    measure(blocks, references, found.__setitem__, config, seed)
    level_s = median(one.reference_s for one in found.values())
    return [found[n].ratio * level_s for n in range(len(blocks))]


def autorange(blocks: Sequence[TimedLoop]) -> Values:
    from torch.utils.benchmark import Timer

    return [Timer("timed(1)", globals={"timed": timed}).adaptive_autorange().median for timed in blocks]


def fixed_loop(blocks: Sequence[TimedLoop], calls: int) -> Values:
    """Mean over a loop of calls after one for warm-up: what most tables were made with."""
    return [(timed(1), timed(calls) / calls)[1] for timed in blocks]


def torchprof(blocks: Sequence[TimedLoop]) -> Values:
    """Sum over torchprof's layers, mean over runs after one for warm-up; nan where it sees no layer."""
    found = []
    for timed in blocks:
        try:
            found.append((timed(1), timed(TORCHPROF_RUNS) / TORCHPROF_RUNS)[1])
        except MeasurementError:
            found.append(float("nan"))
    return found


def process(role: str, space: str, runtime: str, cache: Path, seed: int) -> dict[str, Any]:
    """What one fresh process measures: the truth, or every method in an order that `seed` turns."""
    blocks, key = load_space(space).blocks(), RuntimeKey(runtime)
    # Ours pairs with several copies of the reference, as `jmsnas profile` does.
    references, calls = (
        prepare([REFERENCE_BLOCK] * REFERENCE_COPIES, key, cache, 0),
        prepare(blocks, key, cache, 0),
    )
    with pinned(key):
        if role == "truth":
            rounds = TimingConfig(target=1e-9, finest=1e-9, max_rounds=TRUTH_ROUNDS, budget_s=1e9)
            return {"truth": paired(references, calls, rounds, seed)}
        methods: dict[str, Callable[[], Values]] = {
            "ours": lambda: paired(references, calls, TimingConfig(budget_s=0.6 * len(blocks)), seed),
            "adaptive_autorange": lambda: autorange(calls),
            "fixed loop": lambda: fixed_loop(calls, LOOP_CALLS),
        }
        if runtime == "torch":
            seen = prepare(blocks, RuntimeKey(runtime, timer="torchprof"), cache, 0)
            methods["torchprof"] = lambda: torchprof(seen)
        names = [*methods][seed % len(methods) :] + [*methods][: seed % len(methods)]
        found = {name: timed_method(methods[name]) for name in names}
        as_many = max(1, round(LOOP_CALLS * found["ours"]["seconds"] / found["fixed loop"]["seconds"]))
        found["loop, as long"] = timed_method(lambda: fixed_loop(calls, as_many))
        return found


def timed_method(method: Callable[[], Values]) -> dict[str, Any]:
    began = time.perf_counter()
    values = method()
    return {"seconds": time.perf_counter() - began, "values": values}


def fresh(role: str, space: str, runtime: str, cache: Path, seed: int) -> dict[str, Any]:
    words = [
        "--role",
        role,
        "--space",
        space,
        "--runtime",
        runtime,
        "--cache",
        str(cache),
        "--seed",
        str(seed),
    ]
    answer = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(f"the process for {role} of {space} in {runtime} failed:\n{answer.stderr}")
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def figures(space: str, runtime: str, cache: Path, seed: int) -> dict[str, Any]:
    truths = [fresh("truth", space, runtime, cache, seed)["truth"]]
    runs = []
    for n in range(PROCESSES):
        runs.append(fresh("methods", space, runtime, cache, seed + n))
        if n < PROCESSES - 1:
            truths.append(fresh("truth", space, runtime, cache, seed + n + 1)["truth"])
    logs = np.log(np.array(truths))
    # Ratios stand still while levels jump: the processes are brought to one level before the median.
    truth_s = np.exp(np.median(logs - np.median(logs, axis=1, keepdims=True), axis=0) + np.median(logs))
    methods = []
    for name in runs[0]:
        values = np.array([run[name]["values"] for run in runs])
        off = np.log(values / truth_s)
        level = np.nanmedian(off, axis=1, keepdims=True)
        errors, raw = np.abs(np.expm1(off - level)), np.abs(np.expm1(off))
        methods.append(
            {
                "method": name,
                "seconds": median(run[name]["seconds"] for run in runs),
                "error_median": median(np.nanmedian(errors, axis=1).tolist()),
                "error_p90": median(np.nanquantile(errors, 0.9, axis=1).tolist()),
                "with_level_median": median(np.nanmedian(raw, axis=1).tolist()),
                "with_level_p90": median(np.nanquantile(raw, 0.9, axis=1).tolist()),
                "blocks": int(np.isfinite(values[0]).sum()),
            }
        )
    return {"space": space, "runtime": runtime, "methods": methods}


def report(found: dict[str, Any]) -> list[str]:
    where, of = f"{found['space']}, {found['runtime']}", {one["method"]: one for one in found["methods"]}
    print(f"\n{where:<22} {'blocks':>6} {'seconds':>8} {'median':>8} {'p90':>8}   with the level in")
    for one in found["methods"]:
        print(
            f"  {one['method']:<20} {one['blocks']:>6} {one['seconds']:>8.1f} {one['error_median']:>8.2%} "
            f"{one['error_p90']:>8.2%}   {one['with_level_median']:>7.2%} {one['with_level_p90']:>7.2%}"
        )
    ours, missed = of["ours"], []
    share = ours["seconds"] / of["adaptive_autorange"]["seconds"]
    ratio, bar = ours["error_p90"] / of["loop, as long"]["error_p90"], P90_BARS[found["runtime"]]
    print(f"  ours / adaptive_autorange: {share:.2f} of its seconds; p90 / the loop's as long: {ratio:.2f}")
    if share > SECONDS_BAR:
        missed.append(f"{where}: {share:.2f} of adaptive_autorange's seconds, expected <= {SECONDS_BAR:.2f}")
    if ratio > bar:
        missed.append(f"{where}: p90 error {ratio:.2f} of the loop's at equal seconds, expected <= {bar}")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", action="append", help=f"may be repeated; {', '.join(SPACES)} by default")
    parser.add_argument("--runtime", action="append", choices=RUNTIMES, help="may be repeated; or both")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--role", choices=("truth", "methods"), help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        print(json.dumps(process(given.role, given.space[0], given.runtime[0], given.cache, given.seed)))
        return
    document: dict[str, Any] = {"environment": describe_host(), "figures": []}
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        for space in given.space or SPACES:
            for runtime in given.runtime or RUNTIMES:
                found = figures(space, runtime, Path(folder), given.seed)
                document["figures"].append(found)
                missed += report(found)
    if given.json:
        write_json(given.json, document)
    for line in missed:
        print(f"MISSED {line}")
    if given.check and missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
