"""Cross-validated error of latency estimators on every table of a folder, beside baseline predictors.

    python benchmarks/estimator_error.py --tables DIR                published tables (docs/table.md)
    python benchmarks/estimator_error.py --workspace jmsnas-workspace  what jmsnas profile measured
    python benchmarks/estimator_error.py --tables DIR --check        exit 1 where a bar is missed

Rows are held out at random (five folds), by layer geometries, by pairs of channels, and all but 20, 50 and
100; model selection is repeated in every fit. Small tables are split with three seeds. Bars: on every table
the estimator has no larger error than a line over MACs and than its own roofline, 85 to 95 % of rows are in
its 90 % interval, and it predicts a block that is larger in every size as faster, beyond its intervals, no
more often than it was measured; on the tables named in FIGURES it reaches those. One thread. Files without
latencies of blocks are listed and skipped.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from estimator_speed import print_speed, speed
from harness import benchmark_parser, finish
from threadpoolctl import threadpool_limits

from jmsnas.arrays import FloatArray
from jmsnas.errors import TableError
from jmsnas.estimators.evaluation.evaluate import (
    RANDOM,
    UNSEEN_CHANNELS,
    UNSEEN_GEOMETRY,
    SplitScores,
    split_scores,
)
from jmsnas.estimators.evaluation.hold_out import LINE, MODEL, ROOFLINE, predict_held_out
from jmsnas.estimators.few_shot.experimental_design import informative_rows
from jmsnas.estimators.published.table import read_published
from jmsnas.estimators.regression.cross_validation import (
    Fold,
    can_fit,
    channel_folds,
    few_row_folds,
    group_folds,
    random_folds,
)
from jmsnas.estimators.regression.features import TrainingRows, columns, features, group_ids
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.estimators.store.estimator import training_rows
from jmsnas.profiler.table.parquet import read_metadata, read_table
from jmsnas.workspace import Workspace

# Largest MAPE in percent, by a text in the setting of a table.
FIGURES = {
    "Cortex-A73": {RANDOM: 5.5, UNSEEN_GEOMETRY: 7, "20 rows": 17, "100 rows": 10},
    "Mali GPU": {RANDOM: 5.5, UNSEEN_GEOMETRY: 12, "100 rows": 14},
    "Xeon Gold 6130": {RANDOM: 3.5, UNSEEN_GEOMETRY: 9, "20 rows": 18, "100 rows": 7},
    "TensorFlow 2.0 eager": {RANDOM: 1.5, UNSEEN_GEOMETRY: 3, "20 rows": 7, "100 rows": 2},
}
# Bars of tables of our own profiler: MAPE in percent, share within 10 %, rank correlation by runtime.
OWN_MAPE, OWN_WITHIN_10, OWN_SPEARMAN = 6.0, 0.85, {"onnxruntime": 0.99, "torch": 0.95}
MIN_COVERAGE, MAX_COVERAGE = 0.85, 0.95
# Fewer rows have too few geometries for cross-validation.
MIN_ROWS = 30
SMALL_ROWS, SMALL_DRAWS, FEW_DRAWS = 400, 3, 10
# A block that is larger in these sizes, and equal in the others, should not be faster.
SIZES = ("log_in_channels", "log_out_channels", "log_middle_channels", "log_pixels", "log_kernel_size")
SAME = ("stride", "log_groups", "log_squeezed_channels", "expands", "shortcut", "identity", "swish")
# Rows that are compared in pairs, and the share of pairs that may be out of order in any case.
ORDERED_ROWS, MAX_DISORDER = 1500, 1e-3
SEED = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one setting; `runtime` is that of a table of our own profiler, else empty."""

    name: str
    rows: TrainingRows
    runtime: str = ""


def tables_in(path: Path) -> Iterator[Table]:
    """Read the tables of a Parquet file: MBConv blocks of a published one, measured blocks of one of ours."""
    if read_metadata(path, "jmsnas.schema"):
        table = read_table(path)
        for key in table.keys:
            rows = table.for_key(key).rows
            if not any(row.kind == "simulated" for row in rows):
                yield Table(f"{table.device} {key.label}", training_rows(table.for_key(key)), key.runtime)
        return
    for found in read_published(path):
        # Identities are predicted by a rule and would waste training rows of the small splits.
        kept = [n for n, shape in enumerate(found.shapes) if not shape.identity]
        X = features([found.shapes[n] for n in kept])
        yield Table(str(found.origin), TrainingRows(X, found.measured_s[kept]))


def informative_folds(X: FloatArray, few: int, times: int, seed: int = 0) -> list[Fold]:
    """Make `times` folds with the `few` most informative training rows of a random half of the rows each.

    None where the training rows would be more than half of all rows.
    """
    if 2 * few > len(X):
        return []
    found = []
    for n in range(times):
        half = np.random.default_rng((seed, n)).permutation(len(X))[: max(len(X) // 2, 2 * few)]
        train = half[informative_rows(X[half], few)]
        found.append((train, np.setdiff1d(np.arange(len(X)), train)))
    return [(train, test) for train, test in found if len(set(group_ids(X[train]))) > 1]


def splits_of(table: Table) -> dict[str, list[Fold]]:
    """Make the splits that suit the table's size."""
    X, rows = table.rows.X, len(table.rows.y)
    draws = range(SMALL_DRAWS if rows <= SMALL_ROWS else 1)
    found = {
        RANDOM: [split for draw in draws for split in random_folds(rows, draw)],
        UNSEEN_GEOMETRY: [split for draw in draws for split in group_folds(X, seed=draw)],
        UNSEEN_CHANNELS: [split for draw in draws for split in channel_folds(X, draw)],
        **{f"{few} rows": few_row_folds(X, few, FEW_DRAWS, SEED) for few in (20, 50, 100)},
        **{f"{few} chosen": informative_folds(X, few, FEW_DRAWS, SEED) for few in (20, 100)},
    }
    return {split: folds for split, folds in found.items() if can_fit(X, folds)}


def misses(table: Table, scores: SplitScores) -> list[str]:
    """List the bars that a split misses."""
    own, found = scores.scores[MODEL], []
    for name in (LINE, ROOFLINE):
        if own.mape > scores.scores[name].mape:
            found.append(f"worse than {name}")
    if not MIN_COVERAGE <= scores.coverage <= MAX_COVERAGE:
        found.append("coverage")
    bars = next((bars for text, bars in FIGURES.items() if text in table.name), {})
    bar = bars.get(scores.split, np.inf)
    if table.runtime and scores.split == UNSEEN_GEOMETRY:
        bar = OWN_MAPE
        if own.within_10 < OWN_WITHIN_10:
            found.append(f"within 10 % below {OWN_WITHIN_10:.0%}")
        if (own.spearman or 0) < OWN_SPEARMAN[table.runtime]:
            found.append(f"Spearman below {OWN_SPEARMAN[table.runtime]}")
    if 100 * own.mape > bar:
        found.append(f"MAPE above {bar} %")
    return found


def order(table: Table) -> dict[str, Any]:
    """Compute the shares of pairs (smaller, larger in every size) out of order: measured and predicted.

    Predictions are out of order where their intervals do not overlap. Half of the rows are fitted; all, 1,500
    at most, are compared.
    """
    some = np.random.default_rng(SEED).permutation(len(table.rows.y))[:ORDERED_ROWS]
    train = table.rows.select(some[: len(some) // 2])
    regressor = LatencyRegressor(SEED).fit(train.X, train.y, train.noise)
    X, y = table.rows.X[some], table.rows.y[some]
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
    measured_share, predicted_share = measured / max(pairs, 1), predicted / max(pairs, 1)
    missed = ["order"] if predicted_share > max(measured_share, MAX_DISORDER) else []
    return {
        "table": table.name,
        "pairs": pairs,
        "measured": measured_share,
        "predicted": predicted_share,
        "missed": missed,
    }


def evaluate_table(table: Table) -> list[dict[str, Any]]:
    """Evaluate one table on every split, and print a line for each."""
    print(f"\n{table.name}: {len(table.rows.y)} rows of {len(set(group_ids(table.rows.X)))} geometries")
    print(
        f"  {'held out':16}{'U(.)':>7}{'RMSPE':>7}{'w5':>5}{'w10':>5}{'rank':>7}{'cover':>7}"
        f"{'roofline':>10}{'MACs':>7}{'nearest':>9}{'forest':>8}{'fit':>8}"
    )
    results = []
    for split, folds in splits_of(table).items():
        scores = split_scores(split, folds, table.rows, predict_held_out(folds, table.rows, SEED))
        missed, own = misses(table, scores), scores.scores[MODEL]
        others = [f"{other.mape:.1%}" for name, other in scores.scores.items() if name != MODEL]
        print(
            f"  {split:16}{own.mape:7.2%}{own.rmspe:7.1%}{own.within_5:5.0%}{own.within_10:5.0%}"
            f"{own.spearman or 0:7.3f}{scores.coverage:7.1%}{others[0]:>10}{others[1]:>7}{others[2]:>9}"
            f"{others[3]:>8}{scores.fit_s:7.1f}s  {'MISSED ' + ', '.join(missed) if missed else ''}",
            flush=True,
        )
        results.append({"table": table.name, **asdict(scores), "missed": missed})
    ordered = order(table)
    print(
        f"  out of order: {ordered['predicted']:.2%} of {ordered['pairs']} pairs, beyond intervals; measured "
        f"{ordered['measured']:.2%}{'  MISSED order' if ordered['missed'] else ''}",
        flush=True,
    )
    return [*results, ordered]


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--tables", type=Path, help="folder of latency tables (.parquet)")
    parser.add_argument("--workspace", type=Path, help="workspace with tables of jmsnas profile")
    parser.add_argument("--speed", action="store_true", help="only time fits and predictions")
    arguments = parser.parse_args()
    paths = sorted(arguments.tables.glob("*.parquet")) if arguments.tables else []
    if arguments.workspace:
        workspace = Workspace(arguments.workspace)
        paths += [workspace.table(device) for device in workspace.tables]
    if not paths:
        parser.error("no tables: give --tables DIR or --workspace DIR with .parquet files in it")
    results, largest, begin = [], None, time.perf_counter()
    with threadpool_limits(1):
        for path in paths:
            try:
                found = [table for table in tables_in(path) if len(table.rows.y) >= MIN_ROWS]
            except TableError as error:
                print(f"left out: {error}")
                continue
            for table in found:
                results += [] if arguments.speed else evaluate_table(table)
                largest = table if largest is None or len(table.rows.y) > len(largest.rows.y) else largest
        timed = None if largest is None else speed(largest.name, largest.rows.X, largest.rows.y, SEED)
    if timed:
        print_speed(timed)
    print(f"{time.perf_counter() - begin:.0f} s in all")
    missed = [
        f"{result['table']} {result.get('split', '')}: {', '.join(result['missed'])}"
        for result in (*results, *([timed] if timed else []))
        if result["missed"]
    ]
    figures = {"seed": SEED, "results": results, "speed": timed}
    finish(arguments, figures, missed if timed else ["no table of blocks"])


if __name__ == "__main__":
    main()
