"""How wrong U(.) is on blocks it never saw, table by table, beside simpler predictors.

    python benchmarks/estimator_error.py --tables DIR                published tables (docs/table.md)
    python benchmarks/estimator_error.py --workspace jmsnas-workspace  what jmsnas profile measured
    python benchmarks/estimator_error.py --tables DIR --check        exit 1 where a bar is missed

Rows are held out at random (five ways), by whole layer geometries, by pairs of channels, and all but 20, 50
and 100; every fit chooses its model anew. Small tables are judged by three draws of each. On any table the
estimator is to be no worse than a line over MACs and than its own roofline, its 90 % interval is to hold 85
to 95 %, and it is not to find a block that is larger in every size faster, beyond its intervals, more often
than the device does; on tables that FIGURES names it is to reach those. One thread. Files that hold no
latencies of blocks are named and left out.
"""

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from estimator_speed import print_speed, speed
from threadpoolctl import threadpool_limits

from jmsnas.errors import TableError
from jmsnas.estimators.evaluation.evaluate import (
    RANDOM,
    UNSEEN_CHANNELS,
    UNSEEN_GEOMETRY,
    SplitScores,
    evaluate_split,
)
from jmsnas.estimators.evaluation.hold_out import LINE, MODEL, ROOFLINE
from jmsnas.estimators.few_shot.experimental_design import few_chosen
from jmsnas.estimators.published.table import read_published
from jmsnas.estimators.regression.cross_validation import (
    Fold,
    can_fit,
    channel_folds,
    few_row_folds,
    group_folds,
    random_folds,
)
from jmsnas.estimators.regression.features import columns, features, group_ids, shape_features
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.files import write_json
from jmsnas.profiler.host.environment import describe_host
from jmsnas.profiler.table.parquet import read_metadata, read_table
from jmsnas.profiler.table.trust import relative_noise
from jmsnas.workspace import Workspace

Array = np.ndarray[Any, np.dtype[np.float64]]

# Largest MAPE in percent, by what a table's setting must say.
FIGURES = {
    "Cortex-A73": {RANDOM: 5.5, UNSEEN_GEOMETRY: 7, "20 rows": 17, "100 rows": 10},
    "Mali GPU": {RANDOM: 5.5, UNSEEN_GEOMETRY: 12, "100 rows": 14},
    "Xeon Gold 6130": {RANDOM: 3.5, UNSEEN_GEOMETRY: 9, "20 rows": 18, "100 rows": 7},
    "TensorFlow 2.0 eager": {RANDOM: 1.5, UNSEEN_GEOMETRY: 3, "20 rows": 7, "100 rows": 2},
}
# A table of our own profiler: MAPE in percent, share within 10 %, rank correlation by run time.
OWN_MAPE, OWN_WITHIN_10, OWN_SPEARMAN = 6.0, 0.85, {"onnxruntime": 0.99, "torch": 0.95}
MIN_COVERAGE, MAX_COVERAGE = 0.85, 0.95
# Fewer rows leave too few geometries to hold any out.
MIN_ROWS = 30
SMALL_ROWS, SMALL_DRAWS, FEW_DRAWS = 400, 3, 10
# Sizes that make a block slower if anything, and what must be the same for two blocks to be in order.
SIZES = ("log_in_channels", "log_out_channels", "log_middle_channels", "log_pixels", "log_kernel_size")
SAME = ("stride", "log_groups", "log_squeezed_channels", "expands", "shortcut", "identity", "swish")
# Rows that are set beside each other, and how many pairs in a thousand may be out of order anyhow.
ORDERED_ROWS, MAX_DISORDER = 1500, 1e-3
SEED = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one setting: features, seconds, noise; `runtime` is that of a table of our own, else empty."""

    name: str
    X: Array
    y: Array
    noise: Array | None
    runtime: str = ""


def tables_in(path: Path) -> Iterator[Table]:
    """Tables of one Parquet file: MBConv blocks of a published one, measured blocks of one of ours."""
    if read_metadata(path, "jmsnas.schema"):
        table = read_table(path)
        for key in table.keys:
            rows = table.for_key(key).rows
            if not any(row.kind == "simulated" for row in rows):
                yield Table(
                    f"{table.device} {key.label}",
                    features([row.block for row in rows]),
                    np.array([row.median_s for row in rows]),
                    np.array([relative_noise(row) for row in rows]),
                    key.runtime,
                )
        return
    for found in read_published(path):
        # An identity is free to predict: it would be one of the rows that a fit of 20 sees.
        kept = [n for n, shape in enumerate(found.shapes) if not shape.identity]
        X = shape_features([found.shapes[n] for n in kept])
        yield Table(found.setting, X, found.measured_s[kept], None)


def ways(table: Table) -> dict[str, list[Fold]]:
    """Ways to hold rows out that suit the table's size."""
    X, rows = table.X, len(table.y)
    draws = range(SMALL_DRAWS if rows <= SMALL_ROWS else 1)
    found = {
        RANDOM: [split for draw in draws for split in random_folds(rows, draw)],
        UNSEEN_GEOMETRY: [split for draw in draws for split in group_folds(X, seed=draw)],
        UNSEEN_CHANNELS: [split for draw in draws for split in channel_folds(X, draw)],
        **{f"{few} rows": few_row_folds(X, few, FEW_DRAWS, SEED) for few in (20, 50, 100)},
        **{f"{few} chosen": few_chosen(X, few, FEW_DRAWS, SEED) for few in (20, 100)},
    }
    return {split: folds for split, folds in found.items() if can_fit(X, folds)}


def misses(table: Table, judged: SplitScores) -> list[str]:
    """What of the bars a split misses, in words."""
    own, found = judged.scores[MODEL], []
    for name in (LINE, ROOFLINE):
        if own.mape > judged.scores[name].mape:
            found.append(f"worse than {name}")
    if not MIN_COVERAGE <= judged.coverage <= MAX_COVERAGE:
        found.append("coverage")
    bars = next((bars for text, bars in FIGURES.items() if text in table.name), {})
    bar = bars.get(judged.split, np.inf)
    if table.runtime and judged.split == UNSEEN_GEOMETRY:
        bar = OWN_MAPE
        if own.within_10 < OWN_WITHIN_10:
            found.append(f"within 10 % below {OWN_WITHIN_10:.0%}")
        if (own.spearman or 0) < OWN_SPEARMAN[table.runtime]:
            found.append(f"Spearman below {OWN_SPEARMAN[table.runtime]}")
    if 100 * own.mape > bar:
        found.append(f"MAPE above {bar} %")
    return found


def order(table: Table) -> dict[str, Any]:
    """Share of pairs (smaller, larger in every size) out of order: measured, and predicted beyond intervals.

    Half of the rows are fitted, all are set beside each other (1,500 at most).
    """
    some = np.random.default_rng(SEED).permutation(len(table.y))[:ORDERED_ROWS]
    seen = some[: len(some) // 2]
    noise = None if table.noise is None else table.noise[seen]
    regressor = LatencyRegressor(SEED).fit(table.X[seen], table.y[seen], noise)
    X, y = table.X[some], table.y[some]
    low_s, high_s = regressor.predict_interval(X)
    sizes, same = X[:, columns(SIZES)], X[:, columns(SAME)]
    pairs = measured = predicted = 0
    for n in range(len(X)):
        larger = (
            (sizes >= sizes[n]).all(axis=1) & (sizes > sizes[n]).any(axis=1) & (same == same[n]).all(axis=1)
        )
        pairs += int(larger.sum())
        measured += int((y[larger] < y[n]).sum())
        predicted += int((high_s[larger] < low_s[n]).sum())
    share, said = measured / max(pairs, 1), predicted / max(pairs, 1)
    missed = ["order"] if said > max(share, MAX_DISORDER) else []
    return {"table": table.name, "pairs": pairs, "measured": share, "predicted": said, "missed": missed}


def judge_table(table: Table) -> list[dict[str, Any]]:
    """Judge one table in every way, and print a line each."""
    print(f"\n{table.name}: {len(table.y)} rows of {len(set(group_ids(table.X)))} geometries")
    print(
        f"  {'held out':16}{'U(.)':>7}{'RMSPE':>7}{'w5':>5}{'w10':>5}{'rank':>7}{'cover':>7}"
        f"{'roofline':>10}{'MACs':>7}{'nearest':>9}{'forest':>8}{'fit':>8}"
    )
    results = []
    for split, folds in ways(table).items():
        judged = evaluate_split(split, folds, table.X, table.y, SEED, table.noise)
        missed, own = misses(table, judged), judged.scores[MODEL]
        others = [f"{scores.mape:.1%}" for name, scores in judged.scores.items() if name != MODEL]
        print(
            f"  {split:16}{own.mape:7.2%}{own.rmspe:7.1%}{own.within_5:5.0%}{own.within_10:5.0%}"
            f"{own.spearman or 0:7.3f}{judged.coverage:7.1%}{others[0]:>10}{others[1]:>7}{others[2]:>9}"
            f"{others[3]:>8}{judged.fit_s:7.1f}s  {'MISSED ' + ', '.join(missed) if missed else ''}",
            flush=True,
        )
        results.append({"table": table.name, **asdict(judged), "missed": missed})
    ordered = order(table)
    print(
        f"  out of order: {ordered['predicted']:.2%} of {ordered['pairs']} pairs beyond doubt, measured "
        f"{ordered['measured']:.2%}{'  MISSED order' if ordered['missed'] else ''}",
        flush=True,
    )
    return [*results, ordered]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, help="folder of latency tables (.parquet)")
    parser.add_argument("--workspace", type=Path, help="workspace with tables of jmsnas profile")
    parser.add_argument("--speed", action="store_true", help="only time fits and predictions")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    arguments = parser.parse_args()
    paths = sorted(arguments.tables.glob("*.parquet")) if arguments.tables else []
    if arguments.workspace:
        place = Workspace(arguments.workspace)
        paths += [place.table(device) for device in place.tables]
    if not paths:
        parser.error("no tables: give --tables DIR or --workspace DIR with .parquet files in it")
    results, largest, begin = [], None, time.perf_counter()
    with threadpool_limits(1):
        for path in paths:
            try:
                found = [table for table in tables_in(path) if len(table.y) >= MIN_ROWS]
            except TableError as error:
                print(f"left out: {error}")
                continue
            for table in found:
                results += [] if arguments.speed else judge_table(table)
                largest = table if largest is None or len(table.y) > len(largest.y) else largest
        timed = None if largest is None else speed(largest.name, largest.X, largest.y, SEED)
    if timed:
        print_speed(timed)
    print(f"{time.perf_counter() - begin:.0f} s in all")
    if arguments.json:
        machine = {**describe_host(), "python": platform.python_version()}
        machine |= {name: version(name) for name in ("jmsnas", "numpy", "scipy", "scikit-learn")}
        write_json(arguments.json, {"machine": machine, "seed": SEED, "results": results, "speed": timed})
    missed = [result for result in (*results, *([timed] if timed else [])) if result["missed"]]
    if arguments.check and (missed or not timed):
        raise SystemExit(f"{len(missed)} bars missed" if timed else "no table of blocks to judge")


if __name__ == "__main__":
    main()
