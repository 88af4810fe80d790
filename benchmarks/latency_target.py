"""T of searched models relative to T_const: seeds x {chain, mesh} x {joint, fixed} x three targets on digits.

    python benchmarks/latency_target.py                 60 searches, about 25 minutes on two cores
    python benchmarks/latency_target.py --check         exit with 1 if a bar is missed
    python benchmarks/latency_target.py --seeds 1 --jobs 1    a short run

A row is one warm-up, shared by three targets at the quarters of the feasible range; stage two is off, since
it does not change T. Bars: T of the derived model is within 3 % below T_const and never above, and no other
placement of its operations that the policy allows is faster (joint: all cuts and all assignments of branches
to children are enumerated; fixed: there is one). Printed without a bar: the difference of E[T] from T of the
derived model, the entropy of the choices, and T of the argmax model. Devices are SIMULATED.
"""

import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from harness import benchmark_parser, finish

from jmsnas.nas.derivation.target import targets_in_range
from jmsnas.nas.run_result import RunResult
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.multi_target import ParallelOptions, SearchGroup, run_groups, targets_group
from jmsnas.nas.search.run import RunOptions, SearchInputs, prepare_search
from jmsnas.nas.search.run_folder import SearchSetup, read_log
from jmsnas.nas.search.split_options import SplitOptions
from jmsnas.nas.split.placement import Placement
from jmsnas.workspace import Workspace

BAND, TARGETS = 0.03, 3
ROWS = tuple(itertools.product(("chain", "mesh"), ("joint", "fixed")))


def placements(setup: SearchSetup) -> Iterator[Placement]:
    """Enumerate all placements that policy strict allows."""
    line, N, M = setup.lut.main_path, len(setup.lut.main_path_layers), len(setup.lut.main_path.devices)
    n, m = line.joint or (N, M)
    before = itertools.combinations(range(1, n), m - 1)
    behind = [(*cuts, N) for cuts in itertools.combinations(range(n + 1, N), M - m - 1)] if m < M else [()]
    children = range(len(setup.topology.children))
    for cuts, others, way in itertools.product(before, behind, itertools.permutations(children)):
        yield Placement((*cuts, n, *others), way)


def fastest_s(setup: SearchSetup, candidates: Sequence[str]) -> float:
    """Minimum of T of these operations over all placements."""
    names = [[candidate.name for candidate in choices] for choices in setup.space.choices]
    indices = tuple(own.index(name) for own, name in zip(names, candidates, strict=True))
    if setup.lut.main_path.fixed:
        return setup.lut.best_split(indices)[0]
    return min(setup.lut.latency_s(indices, placement) for placement in placements(setup))


def figures(row: dict[str, Any], run: RunResult, setup: SearchSetup) -> dict[str, Any]:
    """Figures of one search, relative to T_const."""
    t_const_s, t_s = run.target.t_const_s, run.derived.latency_s
    return row | {
        "t_const_s": t_const_s,
        "latency_s": t_s,
        "error": t_s / t_const_s - 1,
        "slower_than_best": t_s / fastest_s(setup, run.derived.candidates) - 1,
        "proven_optimal": run.derived.optimal,
        "expected_gap": run.expected_latency_s / t_s - 1,
        "argmax_error": run.argmax.latency_s / t_const_s - 1,
        "entropy": read_log(run.folder)[-1].entropy,
        "inherited_accuracy": run.accuracy.inherited,
    }


def missed_by(found: dict[str, Any]) -> list[str]:
    """List the bars that a search misses."""
    missed = []
    if not -BAND <= found["error"] <= 0:
        missed.append(f"T is {found['error']:+.3%} of T_const, expected -3 % to 0")
    if found["slower_than_best"] > 1e-9:
        missed.append(f"another split of its operations is {found['slower_than_best']:.2%} faster")
    where = f"{found['topology']}, {found['split']}, seed {found['seed']}, {found['t_const_s'] * 1e3:.4g} ms"
    return [f"{where}: {line}" for line in missed]


def report(document: dict[str, Any]) -> None:
    print(f"space digits, SIMULATED devices, {document['seconds']:.0f} s on {document['jobs']} processes")
    print(f"{'topology':<9} {'split':<6} {'met':>7} {'T: min':>9} {'max':>7} {'E[T] gap':>9} ", end="")
    print(f"{'argmax: min':>13} {'max':>7} {'entropy':>8} {'accuracy':>9} {'proven':>7}")
    for topology, split in ROWS:
        own = [f for f in document["searches"] if (f["topology"], f["split"]) == (topology, split)]
        errors, argmax = [f["error"] for f in own], [f["argmax_error"] for f in own]
        met = sum(not missed_by(f) for f in own)
        print(
            f"{topology:<9} {split:<6} {met:>3}/{len(own):<3} {min(errors):>+9.2%} {max(errors):>+7.2%} "
            f"{median(f['expected_gap'] for f in own):>+9.2%} {min(argmax):>+13.1%} {max(argmax):>+7.1%} "
            f"{median(f['entropy'] for f in own):>8.2f} "
            f"{median(f['inherited_accuracy'] for f in own):>9.1%} {sum(f['proven_optimal'] for f in own):>7}"
        )
    print("(T and argmax relative to T_const; E[T] relative to T of the derived model, medians)")


def groups_of(workspace: Workspace, seeds: int) -> tuple[list[dict[str, Any]], list[SearchGroup]]:
    """Set up the rows and the searches of each."""
    rows, groups = [], []
    for topology, split in ROWS:
        inputs = SearchInputs(topology, "digits", "digits", split=SplitOptions(split))
        setup = prepare_search(workspace, inputs, seed=0, warn=print)
        targets = targets_in_range(setup.lut, TARGETS)
        for seed in range(seeds):
            config = replace(SearchConfig(), seed=seed, final_epochs=0, threads=1)
            rows.append({"topology": topology, "split": split, "seed": seed})
            groups.append(targets_group(f"{topology}-{split}-{seed}", setup, config, targets))
    return rows, groups


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Workspace(Path(temporary))
        rows, groups = groups_of(workspace, arguments.seeds)
        runs = run_groups(workspace, groups, RunOptions(), ParallelOptions(arguments.jobs))
        searches = [
            figures(row, run, group.setup)
            for row, group, own in zip(rows, groups, runs, strict=True)
            for run in own
        ]
    document: dict[str, Any] = {
        "seconds": time.perf_counter() - began,
        "jobs": arguments.jobs,
        "searches": searches,
    }
    report(document)
    missed = [line for found in searches for line in missed_by(found)]
    finish(arguments, document, missed)


if __name__ == "__main__":
    main()
