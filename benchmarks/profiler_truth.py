"""Does the sum over blocks tell how slow a network is? Sums against networks measured whole.

    python benchmarks/profiler_truth.py                 table of figures, in about 5 minutes
    python benchmarks/profiler_truth.py --check         exit 1 where a bar is missed

Of each space and run time one sweep measures every block, 10 whole networks and 30 others. A line through the
10 corrects sums of blocks; it is judged on the 30, which are spread over their MACs so that T spreads too.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from jmsnas.estimators.sums import fit_correction
from jmsnas.files import write_json
from jmsnas.profiler.environment import describe_host
from jmsnas.profiler.host_watch import read_host
from jmsnas.profiler.plan import whole_networks
from jmsnas.profiler.sweep import profile
from jmsnas.profiler.table import RUNTIMES, Key
from jmsnas.space_file import load_space

SPACES = ("digits", "cifar")
FITTED, JUDGED = 10, 30
ERROR_BAR, RANK_BAR, SPREAD = 0.03, 0.95, 1.5


def figures(space_name: str, runtime: str, folder: Path, seed: int) -> dict[str, Any]:
    space, key = load_space(space_name), Key(runtime)
    fitted = whole_networks(space, FITTED, seed)
    judged = [part for part in whole_networks(space, JUDGED + FITTED, seed + 1) if part not in fitted][
        :JUDGED
    ]
    table = profile(
        "local",
        [*space.blocks(), *fitted, *judged],
        [key],
        folder / f"{space_name}-{runtime}.parquet",
        cache=folder / "cache",
        seed=seed,
        tell=lambda line: None,
        watch=read_host,
    ).of(key)
    median_s = {row.block: row.median_s for row in table.rows}
    whole_s = {row.block: row.median_s for row in table.parts}
    sum_s = {part: sum(median_s[block] for block in part.blocks) for part in whole_s}
    line = fit_correction([sum_s[part] for part in fitted], [whole_s[part] for part in fitted])
    truth = np.array([whole_s[part] for part in judged])
    sums = np.array([sum_s[part] for part in judged])
    corrected = np.array([line.apply(seconds) for seconds in sums])
    return {
        "space": space_name,
        "runtime": runtime,
        "networks": len(judged),
        "spread": float(truth.max() / truth.min()),
        "sum_gap_mean": float((sums / truth - 1).mean()),
        "error_mean": float(np.abs(corrected / truth - 1).mean()),
        "error_worst": float(np.abs(corrected / truth - 1).max()),
        "error_left_one_out": line.error,
        "spearman": float(spearmanr(corrected, truth).statistic),
        "offset_s": line.offset_s,
        "slope": line.slope,
    }


def report(found: dict[str, Any]) -> list[str]:
    where = f"{found['space']}, {found['runtime']}"
    print(
        f"{where:<20} {found['networks']:>3} networks, T spreads {found['spread']:.2f} x; sums "
        f"{found['sum_gap_mean']:+.1%}, corrected {found['error_mean']:.2%} off "
        f"(worst {found['error_worst']:.1%}), Spearman {found['spearman']:.3f}"
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
