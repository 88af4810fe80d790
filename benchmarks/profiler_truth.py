"""Compare the sum of block latencies with the measured latency of whole models.

    python benchmarks/profiler_truth.py                 table of figures, in about 6 minutes
    python benchmarks/profiler_truth.py --check         exit with 1 if a bar is missed

For each space and runtime one run measures all blocks, 10 + 30 whole models, and 20 parts cut out of models.
A correction of the sums is fitted to the 10 models, and evaluated on the 30, which are spread over their MACs
so that T varies, and on the parts, which are what a device of a split model runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import profiler_parser, run_profiler_benchmark
from scipy.stats import spearmanr

from jmsnas.estimators.networks.sum_correction import fit_sum_correction
from jmsnas.profiler.plan import sample_models
from jmsnas.profiler.profile import ProfileOptions, update_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.space import Part
from jmsnas.space_file import load_space

FITTED, TESTED, CUT = 10, 30, 20
ERROR_BAR, RANK_BAR, SPREAD = 0.03, 0.95, 1.5


def figures(space_name: str, runtime: str, folder: Path, seed: int) -> dict[str, Any]:
    space = load_space(space_name)
    fitted = sample_models(space, FITTED, seed)
    tested = [part for part in sample_models(space, TESTED + FITTED, seed + 1) if part not in fitted]
    tested, cut = tested[:TESTED], cut_out(sample_models(space, CUT, seed + 2), seed)
    table = update_table(
        "local",
        [*space.blocks(), *fitted, *tested, *cut],
        [RuntimeKey(runtime)],
        folder / f"{space_name}-{runtime}.parquet",
        folder / "cache",
        ProfileOptions(seed=seed, warn=lambda line: None),
    )
    fit = fit_sum_correction(*seconds(table, fitted))
    sums_s, counts, truth_s = map(np.array, seconds(table, tested))
    corrected_s = np.array(list(map(fit.apply, sums_s, counts)))
    error = np.abs(corrected_s / truth_s - 1)
    cut_error = [
        abs(fit.apply(sum_s, count) / s - 1) for sum_s, count, s in zip(*seconds(table, cut), strict=True)
    ]
    return {
        "space": space_name,
        "runtime": runtime,
        "models": len(tested),
        "spread": float(truth_s.max() / truth_s.min()),
        "sum_gap_mean": float((sums_s / truth_s - 1).mean()),
        "error_mean": float(error.mean()),
        "error_worst": float(error.max()),
        "error_left_one_out": fit.error,
        "cut_error_mean": float(np.mean(cut_error)),
        "spearman": float(spearmanr(corrected_s, truth_s).statistic),
        "slope": fit.slope,
        "junction_s": fit.junction_s,
    }


def seconds(table: LatencyTable, parts: Sequence[Part]) -> tuple[list[float], list[int], list[float]]:
    """Sum over the blocks of each part, number of its blocks, and measured latency of the part."""
    median_s = {row.block: row.median_s for row in table.all_rows}
    sums_s = [sum(median_s[block] for block in part.blocks) for part in parts]
    return sums_s, [len(part.blocks) for part in parts], [median_s[part] for part in parts]


def cut_out(models: Sequence[Part], seed: int) -> list[Part]:
    """Cut a part of two blocks or more, but not all, out of each model."""
    generator, found = np.random.default_rng(seed), []
    for model in models:
        count = int(generator.integers(2, len(model.blocks)))
        first = int(generator.integers(len(model.blocks) - count + 1))
        found.append(Part(model.blocks[first : first + count]))
    return list(dict.fromkeys(found))


def report(found: dict[str, Any]) -> list[str]:
    where = f"{found['space']}, {found['runtime']}"
    print(
        f"{where:<20} {found['models']:>3} models, T spreads {found['spread']:.2f} x; sums "
        f"{found['sum_gap_mean']:+.1%}, corrected {found['error_mean']:.2%} off "
        f"(worst {found['error_worst']:.1%}), Spearman {found['spearman']:.3f}; parts of models "
        f"{found['cut_error_mean']:.2%} off"
    )
    missed = []
    if found["error_mean"] > ERROR_BAR:
        missed.append(f"{where}: mean error {found['error_mean']:.2%}, expected <= {ERROR_BAR:.0%}")
    if found["spearman"] < RANK_BAR:
        missed.append(f"{where}: Spearman {found['spearman']:.3f}, expected >= {RANK_BAR}")
    if found["spread"] < SPREAD:
        missed.append(f"{where}: T spreads {found['spread']:.2f} x, expected >= {SPREAD}")
    return missed


def main() -> None:
    run_profiler_benchmark(profiler_parser(__doc__).parse_args(), figures, report)


if __name__ == "__main__":
    main()
