"""Compare time and error of timing methods: paired rounds, torchprof, adaptive_autorange and a fixed loop.

    python benchmarks/profiler_cost.py                  table of figures, in about 15 minutes
    python benchmarks/profiler_cost.py --check          exit with 1 if a bar is missed

The true latency of a block is the median over three processes of the median of 200 paired rounds. Each
method then times the space in three processes, in rotating order, and stops by its own rule: paired rounds at
1 %, torchprof after 10 runs (eager torch only), torch.utils.benchmark's adaptive_autorange at
IQR / median < 0.1, the fixed loop after 50 calls. "loop, as long" is the fixed loop with as many calls as fit
into the time of the paired rounds. Building the blocks is not timed; it is the same for all methods.

The error of a method is |value / truth - 1| after division by the level, the median of value / truth over
blocks, since the host's speed jumps between processes for all methods alike. The errors without that division
are printed too.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import profiler_parser, run_profiler_benchmark

from jmsnas.errors import MeasurementError
from jmsnas.profiler.session.run_job import REFERENCE_COPIES
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, RuntimeKey
from jmsnas.profiler.table.measurement import Measurement
from jmsnas.profiler.timing.backends import pinned, prepare
from jmsnas.profiler.timing.paired_timing import TimedLoop, TimingConfig, measure
from jmsnas.space_file import load_space

TRUTH_ROUNDS, PROCESSES, TORCHPROF_RUNS, LOOP_CALLS = 200, 3, 10, 50
# Paired rounds take at most a third of adaptive_autorange's time; at equal time their p90 error is at most
# half of the fixed loop's in eager torch, and no larger in onnxruntime.
SECONDS_BAR, P90_BARS = 1 / 3, {"torch": 0.5, "onnxruntime": 1.0}
Values = list[float]


def paired(
    references: Sequence[TimedLoop], blocks: Sequence[TimedLoop], config: TimingConfig, seed: int
) -> Values:
    """Seconds of each block by paired rounds: the ratio times the median latency of the reference."""
    found: dict[int, Measurement] = {}
    measure(blocks, references, found.__setitem__, config, seed)
    level_s = median(one.reference_s for one in found.values())
    return [found[n].ratio * level_s for n in range(len(blocks))]


def autorange(blocks: Sequence[TimedLoop]) -> Values:
    from torch.utils.benchmark import Timer

    return [Timer("timed(1)", globals={"timed": timed}).adaptive_autorange().median for timed in blocks]


def fixed_loop(blocks: Sequence[TimedLoop], calls: int) -> Values:
    """Mean over a loop of calls after one warm-up call, as most latency tables are measured."""
    return [(timed(1), timed(calls) / calls)[1] for timed in blocks]


def torchprof(blocks: Sequence[TimedLoop]) -> Values:
    """Sum over torchprof's layers, mean over runs after a warm-up run; nan for a block without layers."""
    found = []
    for timed in blocks:
        try:
            found.append((timed(1), timed(TORCHPROF_RUNS) / TORCHPROF_RUNS)[1])
        except MeasurementError:
            found.append(float("nan"))
    return found


def process(role: str, space: str, runtime: str, cache: Path, seed: int) -> dict[str, Any]:
    """Measure the true latencies, or all methods in an order rotated by `seed`, in this process."""
    blocks, key = load_space(space).blocks(), RuntimeKey(runtime)
    # Several copies of the reference, as in `jmsnas profile`.
    references = prepare([REFERENCE_BLOCK] * REFERENCE_COPIES, key, cache, 0)
    calls = prepare(blocks, key, cache, 0)
    with pinned(key):
        if role == "truth":
            rounds = TimingConfig(target=1e-9, finest=1e-9, max_rounds=TRUTH_ROUNDS, budget_s=1e9)
            return {"truth": paired(references, calls, rounds, seed)}
        methods: dict[str, Callable[[], Values]] = {
            "paired rounds": lambda: paired(
                references, calls, TimingConfig(budget_s=0.6 * len(blocks)), seed
            ),
            "adaptive_autorange": lambda: autorange(calls),
            "fixed loop": lambda: fixed_loop(calls, LOOP_CALLS),
        }
        if runtime == "torch":
            profiled = prepare(blocks, RuntimeKey(runtime, timer="torchprof"), cache, 0)
            methods["torchprof"] = lambda: torchprof(profiled)
        names = [*methods][seed % len(methods) :] + [*methods][: seed % len(methods)]
        found = {name: timed_method(methods[name]) for name in names}
        as_many = max(
            1, round(LOOP_CALLS * found["paired rounds"]["seconds"] / found["fixed loop"]["seconds"])
        )
        found["loop, as long"] = timed_method(lambda: fixed_loop(calls, as_many))
        return found


def timed_method(method: Callable[[], Values]) -> dict[str, Any]:
    began = time.perf_counter()
    values = method()
    return {"seconds": time.perf_counter() - began, "values": values}


def run_in_process(role: str, space: str, runtime: str, cache: Path, seed: int) -> dict[str, Any]:
    """Run `process` in a new process."""
    options = {"role": role, "space": space, "runtime": runtime, "cache": cache, "seed": seed}
    argv = [term for name, value in options.items() for term in (f"--{name}", str(value))]
    done = subprocess.run([sys.executable, __file__, *argv], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the process for {role} of {space} in {runtime} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def figures(space: str, runtime: str, cache: Path, seed: int) -> dict[str, Any]:
    truths = [run_in_process("truth", space, runtime, cache, seed)["truth"]]
    runs = []
    for n in range(PROCESSES):
        runs.append(run_in_process("methods", space, runtime, cache, seed + n))
        if n < PROCESSES - 1:
            truths.append(run_in_process("truth", space, runtime, cache, seed + n + 1)["truth"])
    logs = np.log(np.array(truths))
    # Ratios are constant while levels jump: the processes are scaled to one level before the median.
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
    """Print the figures of one space and runtime, and return the bars that are missed."""
    where = f"{found['space']}, {found['runtime']}"
    print(f"\n{where:<22} {'blocks':>6} {'seconds':>8} {'median':>8} {'p90':>8}   with the level")
    for one in found["methods"]:
        print(
            f"  {one['method']:<20} {one['blocks']:>6} {one['seconds']:>8.1f} {one['error_median']:>8.2%} "
            f"{one['error_p90']:>8.2%}   {one['with_level_median']:>7.2%} {one['with_level_p90']:>7.2%}"
        )
    methods, missed = {one["method"]: one for one in found["methods"]}, []
    paired_rounds, bar = methods["paired rounds"], P90_BARS[found["runtime"]]
    share = paired_rounds["seconds"] / methods["adaptive_autorange"]["seconds"]
    ratio = paired_rounds["error_p90"] / methods["loop, as long"]["error_p90"]
    print(
        f"  paired rounds: {share:.2f} of adaptive_autorange's seconds, "
        f"{ratio:.2f} of the loop's p90 at equal time"
    )
    if share > SECONDS_BAR:
        missed.append(f"{where}: {share:.2f} of adaptive_autorange's seconds, expected <= {SECONDS_BAR:.2f}")
    if ratio > bar:
        missed.append(f"{where}: p90 error {ratio:.2f} of the loop's at equal time, expected <= {bar}")
    return missed


def main() -> None:
    parser = profiler_parser(__doc__)
    parser.add_argument("--role", choices=("truth", "methods"), help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        (space,), (runtime,) = arguments.space, arguments.runtime
        print(json.dumps(process(arguments.role, space, runtime, arguments.cache, arguments.seed)))
        return
    run_profiler_benchmark(arguments, figures, report)


if __name__ == "__main__":
    main()
