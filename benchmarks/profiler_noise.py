"""How well a table agrees with itself: across processes, under drift, and beside other work.

    python benchmarks/profiler_noise.py                 table of figures, in about 10 minutes
    python benchmarks/profiler_noise.py --check         exit 1 where a bar is missed
    python benchmarks/profiler_noise.py --space digits --runtime torch

Of each space and run time every block is swept four times, as `jmsnas profile` does it: twice on the machine
as it is, beside a process that loads the OTHER cores, and beside one on the SAME core. All figures are of
ratios to the reference block. The drift is injected: the seconds of one sitting are replayed, 10 % longer
from half way on, so that both estimates rest on the same samples.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jmsnas.files import write_json
from jmsnas.profiler.host.environment import describe_host
from jmsnas.profiler.profile import ProfileOptions, update_table
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, RUNTIMES, BlockRow, RuntimeKey
from jmsnas.profiler.table.measurement import Measurement
from jmsnas.profiler.table.trust import is_disturbed
from jmsnas.profiler.timing.backends import pinned, prepare
from jmsnas.profiler.timing.paired_timing import TimedLoop, TimingConfig, measure
from jmsnas.space import Block
from jmsnas.space_file import load_space

SPACES = ("digits", "cifar")
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


def sweep(
    path: Path, blocks: Sequence[Block], key: RuntimeKey, cache: Path, seed: int
) -> dict[Block, BlockRow]:
    """Rows of a fresh table; a worker of its own measures it, and another its noise floor."""
    options = ProfileOptions(seed=seed, warn=lambda line: None)
    table = update_table("local", blocks, [key], path, cache, options)
    return {row.block: row for row in table.rows}


@contextmanager
def load(cores: set[int]) -> Iterator[None]:
    """Keep cores busy, one process each."""
    spinners = [subprocess.Popen([sys.executable, "-c", _SPIN, json.dumps([core])]) for core in cores]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


@contextmanager
def only_on(cores: set[int]) -> Iterator[None]:
    """Keep this process, and what it starts, on some cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Tape:
    """Seconds of every sample of a sitting in their order: taken once, then given again, with the drift."""

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
    # Rounds alone end it, so that both sittings ask for the same samples in the same order.
    config = TimingConfig(budget_s=1e9, target=1e-12, finest=1e-12, max_rounds=DRIFT_ROUNDS, warm_up_s=1e-9)
    found: list[dict[int, Measurement]] = [{}, {}]
    tape = Tape()
    with pinned(key):
        recorded = [partial(tape.record, timed) for timed in others]
        measure(recorded, [partial(tape.record, reference)], found[0].__setitem__, config, seed)
    measure([tape.play] * len(others), [tape.play], found[1].__setitem__, config, seed)
    if tape.played != len(tape.seconds):
        raise SystemExit(f"played {tape.played} of {len(tape.seconds)} samples: the two sittings differ")
    return [abs(found[1][n].ratio / found[0][n].ratio - 1) for n in range(len(blocks))]


def gaps(a: dict[Block, BlockRow], b: dict[Block, BlockRow]) -> list[float]:
    return [abs(b[block].ratio / a[block].ratio - 1) for block in a if block in b]


def inside(a: dict[Block, BlockRow], b: dict[Block, BlockRow]) -> float:
    """Share of b's ratios within a's interval, the one a table prints (widened by its own noise floor)."""
    held = [row.low_s <= b[block].ratio * row.median_s / row.ratio <= row.high_s for block, row in a.items()]
    return float(np.mean(held))


def figures(space: str, runtime: str, folder: Path, seed: int) -> dict[str, Any]:
    blocks, key, cache = load_space(space).blocks(), RuntimeKey(runtime), folder / "cache"
    cores = os.sched_getaffinity(0)
    here, elsewhere = {min(cores)}, cores - {min(cores)}
    first = sweep(folder / f"{space}-{runtime}-1.parquet", blocks, key, cache, seed)
    second = sweep(folder / f"{space}-{runtime}-2.parquet", blocks, key, cache, seed + 1)
    found: dict[str, Any] = {"space": space, "runtime": runtime, "rows": len(first)}
    if elsewhere:
        with load(elsewhere), only_on(here):
            beside = sweep(folder / f"{space}-{runtime}-3.parquet", blocks, key, cache, seed)
        apart = gaps(first, beside)
        found["other_core_median"] = float(np.median(apart))
        found["other_core_p90"] = float(np.quantile(apart, 0.9))
    with load(here), only_on(here):
        shared = sweep(folder / f"{space}-{runtime}-4.parquet", blocks, key, cache, seed)
    found["same_core_flagged"] = float(np.mean([is_disturbed(row) for row in shared.values()]))
    apart, widths = gaps(first, second), np.array([row.half_width for row in first.values()])
    both = [*first.values(), *second.values()]
    bias = drift_bias(blocks, key, cache, seed)
    return {
        **found,
        "gap_median": float(np.median(apart)),
        "gap_p90": float(np.quantile(apart, 0.9)),
        "within_1_percent": float((widths <= 0.01).mean()),
        "within_2_percent": float((widths <= 0.02).mean()),
        "doubt_median": float(np.median([row.relative_ci for row in first.values()])),
        "inside_interval": inside(first, second),
        "flagged": float(np.mean([is_disturbed(row) for row in both])),
        "trust": {mark: sum(row.trust == mark for row in both) for mark in ("green", "yellow", "red")},
        "drift_bias_p95": float(np.quantile(bias, 0.95)),
    }


def report(found: dict[str, Any]) -> list[str]:
    """Print the figures of one space and run time beside their bars, and give what missed."""
    where = f"{found['space']}, {found['runtime']}"
    print(f"\n{where}: {found['rows']} blocks, widened half width {found['doubt_median']:.2%} (median)")
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", action="append", help=f"may be repeated; {', '.join(SPACES)} by default")
    parser.add_argument("--runtime", action="append", choices=RUNTIMES, help="may be repeated; or both")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    document: dict[str, Any] = {"environment": describe_host(), "bars": BARS, "figures": []}
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
