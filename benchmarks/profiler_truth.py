"""Does the sum over blocks tell how slow a network is? Sums against networks measured whole.

    python benchmarks/profiler_truth.py                 table of figures, in about 6 minutes
    python benchmarks/profiler_truth.py --check         exit 1 where a bar is missed

Of each space and run time one sweep measures every block, 10 whole networks, 30 others, and 20 parts cut out
of networks. The 10 correct sums of blocks; that is judged on the 30, which are spread over their MACs so that
T spreads too, and on the parts, which are what a device of a split network runs.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from jmsnas.estimators.networks.sum_correction import fit_sum_correction
from jmsnas.files import write_json
from jmsnas.profiler.host.environment import describe_host
from jmsnas.profiler.plan import sample_models
from jmsnas.profiler.profile import ProfileOptions, update_table
from jmsnas.profiler.table.latency_table import RUNTIMES, LatencyTable, RuntimeKey
from jmsnas.space import Part
from jmsnas.space_file import load_space

SPACES = ("digits", "cifar")
FITTED, JUDGED, CUT = 10, 30, 20
ERROR_BAR, RANK_BAR, SPREAD = 0.03, 0.95, 1.5


def figures(space_name: str, runtime: str, folder: Path, seed: int) -> dict[str, Any]:
    space = load_space(space_name)
    fitted = sample_models(space, FITTED, seed)
    judged = [part for part in sample_models(space, JUDGED + FITTED, seed + 1) if part not in fitted]
    judged, cut = judged[:JUDGED], cut_out(sample_models(space, CUT, seed + 2), seed)
    table = update_table(
        "local",
        [*space.blocks(), *fitted, *judged, *cut],
        [RuntimeKey(runtime)],
        folder / f"{space_name}-{runtime}.parquet",
        folder / "cache",
        ProfileOptions(seed=seed, warn=lambda line: None),
    )
    fit = fit_sum_correction(*seconds(table, fitted))
    sums_s, counts, truth_s = map(np.array, seconds(table, judged))
    corrected_s = np.array(list(map(fit.apply, sums_s, counts)))
    error = np.abs(corrected_s / truth_s - 1)
    cut_error = [
        abs(fit.apply(sum_s, count) / s - 1) for sum_s, count, s in zip(*seconds(table, cut), strict=True)
    ]
    return {
        "space": space_name,
        "runtime": runtime,
        "networks": len(judged),
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
    """Of each part the sum over its blocks, how many they are, and what it took itself."""
    median_s = {row.block: row.median_s for row in table.all_rows}
    sums_s = [sum(median_s[block] for block in part.blocks) for part in parts]
    return sums_s, [len(part.blocks) for part in parts], [median_s[part] for part in parts]


def cut_out(networks: Sequence[Part], seed: int) -> list[Part]:
    """Cut a part of two blocks or more, but not all, out of each network."""
    generator, found = np.random.default_rng(seed), []
    for network in networks:
        count = int(generator.integers(2, len(network.blocks)))
        first = int(generator.integers(len(network.blocks) - count + 1))
        found.append(Part(network.blocks[first : first + count]))
    return list(dict.fromkeys(found))


def report(found: dict[str, Any]) -> list[str]:
    where = f"{found['space']}, {found['runtime']}"
    print(
        f"{where:<20} {found['networks']:>3} networks, T spreads {found['spread']:.2f} x; sums "
        f"{found['sum_gap_mean']:+.1%}, corrected {found['error_mean']:.2%} off "
        f"(worst {found['error_worst']:.1%}), Spearman {found['spearman']:.3f}; parts of networks "
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", action="append", help=f"may be repeated; {', '.join(SPACES)} by default")
    parser.add_argument("--runtime", action="append", choices=RUNTIMES, help="may be repeated; or both")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
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
