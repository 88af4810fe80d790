"""Repeatability of latency tables: between processes, under drift, and with other load on the host.

    python benchmarks/profiler_noise.py                 table of figures, in about 10 minutes
    python benchmarks/profiler_noise.py --check         exit with 1 if a bar is missed
    python benchmarks/profiler_noise.py --space digits --runtime torch

For each space and runtime all blocks are profiled four times as by `jmsnas profile`: twice on the machine as
it is, with a process loading the OTHER cores, and with one loading the SAME core. All figures are of ratios
to the reference block. The drift is injected: recorded samples are replayed, 10 % longer in the second half,
so that both estimates are based on the same samples.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import profiler_parser, run_profiler_benchmark

from jmsnas.profiler.profile import ProfileOptions, update_table
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, BlockRow, RuntimeKey
from jmsnas.profiler.table.measurement import Measurement
from jmsnas.profiler.table.trust import is_disturbed
from jmsnas.profiler.timing.backends import pinned, prepare
from jmsnas.profiler.timing.paired_timing import TimedLoop, TimingConfig, measure
from jmsnas.space import Block
from jmsnas.space_file import load_space

DRIFT, DRIFT_ROUNDS = 1.1, 60
# figure: (bar, whether it must be at most that)
BARS = {
    "gap_median": (0.015, True),
    "gap_p90": (0.04, True),
    "within_1_percent": (0.85, False),
    "within_2_percent": (0.95, False),
    "inside_interval": (0.90, False),
    "flagged": (0.05, True),
    "drift_bias_p95": (0.005, True),
    "other_core_median": (0.02, True),
    "other_core_p90": (0.04, True),
    "same_core_flagged": (0.95, False),
}
_SPIN = (
    "import json, os, sys\nos.sched_setaffinity(0, json.loads(sys.argv[1]))\nwhile True: sum(range(10000))"
)


def profile_blocks(
    path: Path, blocks: Sequence[Block], key: RuntimeKey, cache: Path, seed: int
) -> dict[Block, BlockRow]:
    """Rows of a new table, which `jmsnas profile` measures in one process and repeats in part in another."""
    options = ProfileOptions(seed=seed, warn=lambda line: None)
    table = update_table("local", blocks, [key], path, cache, options)
    return {row.block: row for row in table.rows}


@contextmanager
def load(cores: set[int]) -> Iterator[None]:
    """Load cores, with one busy process each."""
    spinners = [subprocess.Popen([sys.executable, "-c", _SPIN, json.dumps([core])]) for core in cores]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


@contextmanager
def run_on(cores: set[int]) -> Iterator[None]:
    """Restrict this process and its children to some cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Tape:
    """Recorder of the samples of a measurement, which replays them with an injected drift."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.played = 0

    def record(self, timed: TimedLoop, loops: int) -> float:  # noqa: D102
        self.seconds.append(timed(loops))
        return self.seconds[-1]

    def play(self, loops: int) -> float:  # noqa: D102
        self.played += 1
        factor = DRIFT if self.played > len(self.seconds) / 2 else 1.0
        return self.seconds[self.played - 1] * factor


def drift_bias(blocks: Sequence[Block], key: RuntimeKey, cache: Path, seed: int) -> list[float]:
    """|ratio with drift / ratio without - 1| of every block, from the same samples."""
    reference, *others = prepare([REFERENCE_BLOCK, *blocks], key, cache, seed)
    # The number of rounds is the only limit, so that both runs take the same samples in the same order.
    config = TimingConfig(budget_s=1e9, target=1e-12, finest=1e-12, max_rounds=DRIFT_ROUNDS, warm_up_s=1e-9)
    found: list[dict[int, Measurement]] = [{}, {}]
    tape = Tape()
    with pinned(key):
        recorded = [partial(tape.record, timed) for timed in others]
        measure(recorded, [partial(tape.record, reference)], found[0].__setitem__, config, seed)
    measure([tape.play] * len(others), [tape.play], found[1].__setitem__, config, seed)
    if tape.played != len(tape.seconds):
        raise SystemExit(f"played {tape.played} of {len(tape.seconds)} samples: the two runs differ")
    return [abs(found[1][n].ratio / found[0][n].ratio - 1) for n in range(len(blocks))]


def gaps(a: dict[Block, BlockRow], b: dict[Block, BlockRow]) -> list[float]:
    return [abs(b[block].ratio / a[block].ratio - 1) for block in a if block in b]


def inside(a: dict[Block, BlockRow], b: dict[Block, BlockRow]) -> float:
    """Share of b's ratios within the interval of a, widened by the noise floor of its table."""
    held = [row.low_s <= b[block].ratio * row.median_s / row.ratio <= row.high_s for block, row in a.items()]
    return float(np.mean(held))


def figures(space: str, runtime: str, folder: Path, seed: int) -> dict[str, Any]:
    blocks, key, cache = load_space(space).blocks(), RuntimeKey(runtime), folder / "cache"
    cores = os.sched_getaffinity(0)
    here, elsewhere = {min(cores)}, cores - {min(cores)}
    first = profile_blocks(folder / f"{space}-{runtime}-1.parquet", blocks, key, cache, seed)
    second = profile_blocks(folder / f"{space}-{runtime}-2.parquet", blocks, key, cache, seed + 1)
    found: dict[str, Any] = {"space": space, "runtime": runtime, "rows": len(first)}
    if elsewhere:
        with load(elsewhere), run_on(here):
            beside = profile_blocks(folder / f"{space}-{runtime}-3.parquet", blocks, key, cache, seed)
        differences = gaps(first, beside)
        found["other_core_median"] = float(np.median(differences))
        found["other_core_p90"] = float(np.quantile(differences, 0.9))
    with load(here), run_on(here):
        shared = profile_blocks(folder / f"{space}-{runtime}-4.parquet", blocks, key, cache, seed)
    found["same_core_flagged"] = float(np.mean([is_disturbed(row) for row in shared.values()]))
    differences, widths = gaps(first, second), np.array([row.half_width for row in first.values()])
    rows = [*first.values(), *second.values()]
    bias = drift_bias(blocks, key, cache, seed)
    return {
        **found,
        "gap_median": float(np.median(differences)),
        "gap_p90": float(np.quantile(differences, 0.9)),
        "within_1_percent": float((widths <= 0.01).mean()),
        "within_2_percent": float((widths <= 0.02).mean()),
        "relative_ci_median": float(np.median([row.relative_ci for row in first.values()])),
        "inside_interval": inside(first, second),
        "flagged": float(np.mean([is_disturbed(row) for row in rows])),
        "trust": {mark: sum(row.trust == mark for row in rows) for mark in ("green", "yellow", "red")},
        "drift_bias_p95": float(np.quantile(bias, 0.95)),
    }


def report(found: dict[str, Any]) -> list[str]:
    """Print the figures of one space and runtime with their bars, and return the bars that are missed."""
    where = f"{found['space']}, {found['runtime']}"
    print(f"\n{where}: {found['rows']} blocks, widened half width {found['relative_ci_median']:.2%} (median)")
    missed = []
    for name, (bar, at_most) in BARS.items():
        if name not in found:
            print(f"  {name:<20} not run: this process has one core")
            continue
        good = found[name] <= bar if at_most else found[name] >= bar
        relation = f"{'<=' if at_most else '>='} {bar:.1%}"
        print(f"  {name:<20} {found[name]:>8.2%}  {relation}{'' if good else '  MISSED'}")
        if not good:
            missed.append(f"{where}: {name} {found[name]:.2%}, expected {relation}")
    return missed


def main() -> None:
    run_profiler_benchmark(profiler_parser(__doc__).parse_args(), figures, report)


if __name__ == "__main__":
    main()
