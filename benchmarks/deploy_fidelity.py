"""Compare predicted and measured T of 4 agents in a chain and 6 in a mesh, in network namespaces.

Each agent is a process in its own namespace, one thread, batch 1. Links have 25, 50 and 200 Mbit/s as in
Table I (link_namespaces.py). Predicted: equations (1) and (2) from U(.) of this host (measured here, in
onnxruntime), from link measurements of the leader, and from the serving overhead of two reference models.
Measured: the median of T over `--requests` requests, from the image's arrival at the first device to the
result at the last. All processes share the cores of this machine; its load is printed.

Models: of the `cifar` space, and MobileNetV2 at 224. 400 of the space are drawn with cuts of their own, all
uniform, from the seed. Those measured are chosen before, by T as predicted from U(.) and Table I's rates:
nearest to equal ratios from the lower quartile of the 400 to the upper. So T spreads, by at least 1.5 times
as is checked, and the control, the mean T of the other models, is not right by chance.

Bars: a mean error of 3 % on the chain and 5 % on the mesh, and less than the error of the control.

Needs root (namespaces); otherwise it prints "not run", and `--check` exits with 1. With `--work FOLDER` the
table and results are kept there, and the same command continues from them.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from deploy_networks import (
    DEVICES,
    PAIRS,
    Result,
    Split,
    Tau,
    at_cuts,
    drawn_splits,
    evaluate,
    even_cuts,
    mobilenet_v2,
    spread,
    with_references,
)
from harness import benchmark_parser, finish
from link_namespaces import namespace, namespaces

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.loopback import leader_certs, loopback_agents
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.profiler.profile import ProfileOptions, update_table
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.space import BlockOrPart

BARS, SPREAD_BAR, TOLERANCE = {"chain": 0.03, "mesh": 0.05}, 1.5, 1e-4
_DRAWN = 400


@contextmanager
def agents(
    names: Sequence[str], links: Sequence[tuple[str, str]], folder: Path
) -> Iterator[tuple[Leader, list[int]]]:
    """Start an agent in each namespace, and yield their leader and their process ids."""
    with ExitStack() as stack:
        where = stack.enter_context(namespaces(names, links))
        found: dict[str, AgentAddress] = {}
        pids: list[int] = []
        for name in names:
            prefix = ("ip", "netns", "exec", namespace(name))
            one = stack.enter_context(loopback_agents((name,), folder, prefix=prefix, host=where[name]))
            found[name] = one[name].address
            pids.append(one[name].process.pid)
        leader = Leader(leader_certs(folder), found)
        stack.callback(leader.close)
        yield leader, pids


def cannot_run() -> bool:
    """Whether network namespaces are unavailable; prints why."""
    missing = os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc")
    if missing:
        print("not run: network namespaces need root, ip and tc")
    return missing


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--models", type=int, default=10, help="random models of the cifar space")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of profiling on this host")
    parser.add_argument("--topology", choices=tuple(DEVICES), action="append")
    parser.add_argument("--work", type=Path, help="folder of saved table and results, to continue from")
    parser.add_argument(
        "--stop-after", type=float, default=1e9, help="stop between models after this many seconds"
    )
    parser.add_argument("--terms", action="store_true", help="print all terms")
    return parser.parse_args()


def main() -> None:
    """Profile, measure, print, check."""
    arguments, began = parse_arguments(), time.monotonic()
    if cannot_run():
        raise SystemExit(int(arguments.check))
    topologies = arguments.topology or list(DEVICES)
    with ExitStack() as stack:
        folder = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jmsnas-")))
        folder.mkdir(parents=True, exist_ok=True)
        chosen = {topology: chosen_splits(topology, folder, arguments) for topology in topologies}
        subjects = with_references(split for splits in chosen.values() for split in splits.values())
        tau, load = profiled(subjects, folder, arguments), os.getloadavg()
        for topology, splits in chosen.items():
            run(topology, splits, tau, folder, arguments, began)
        results = [Result(**json.loads(file.read_text())) for file in sorted(folder.glob("result-*.json"))]
    results = [result for result in results if result.model in chosen.get(result.topology, ())]
    if len(results) < (wanted := sum(map(len, chosen.values()))):
        print(f"{len(results)} of {wanted} done: run the same command to continue")
        raise SystemExit(int(arguments.check))
    report(arguments, results, load)


def chosen_splits(topology: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Split]:
    """Choose the models over a topology, and their cuts, before anything but U(.) is measured."""
    drawn, (large, blocks) = drawn_splits(topology, _DRAWN, arguments.seed), *mobilenet_v2().items()
    of_drawn = (block for split in drawn.values() for part in split.segments.values() for block in part)
    tau = profiled(list(dict.fromkeys([*of_drawn, *blocks])), folder, arguments)
    cuts = even_cuts([tau[block] for block in blocks], 4)
    return {**spread(drawn, tau, arguments.models), large: at_cuts(topology, blocks, cuts[:3])}


def profiled(subjects: Sequence[BlockOrPart], folder: Path, arguments: argparse.Namespace) -> Tau:
    """Measure U(.) of this host."""
    table = update_table(
        "local",
        list(subjects),
        [RuntimeKey()],
        folder / "local.parquet",
        folder / "cache",
        ProfileOptions(
            seed=arguments.seed,
            budget_s=arguments.budget,
            warn=lambda text: print(text, file=sys.stderr),
            read_host=None,
        ),
    )
    return {row.block: row.median_s for row in table.all_rows}


def run(
    topology: str,
    splits: dict[str, Split],
    tau: Tau,
    folder: Path,
    arguments: argparse.Namespace,
    began: float,
) -> None:
    """Measure the remaining models over a topology, and save each result in a file."""
    files = {name: folder / f"result-{topology}-{name.replace(' ', '_')}.json" for name in splits}
    left = [name for name in splits if not files[name].exists()]
    if not left or time.monotonic() - began > arguments.stop_after:
        return
    with (
        tempfile.TemporaryDirectory(prefix="jmsnas-") as own,
        agents(DEVICES[topology], PAIRS[topology], Path(own)) as (leader, _),
    ):
        for name in left:
            if time.monotonic() - began > arguments.stop_after:
                return
            result = evaluate(name, splits[name], tau, leader, arguments.requests)
            show(result, arguments.terms)
            files[name].write_text(json.dumps(asdict(result)))


def show(result: Result, terms: bool) -> None:
    """Print a result, and its terms in milliseconds."""
    print(
        f"{result.topology:<6} {result.model:<18} predicted {1e3 * result.predicted_s:8.2f} ms  measured "
        f"{1e3 * result.measured_s:8.2f} ms  error {result.error:6.1%} "
        f"(without overhead {abs(result.bare_s / result.measured_s - 1):6.1%})  "
        f"logits differ {result.difference:.1e}",
        flush=True,
    )
    for term in result.terms if terms else ():
        predicted_s = term["predicted_s"] or 0.0
        print(
            f"    {term['kind']:<8}{term['where']:<16}{1e3 * predicted_s:9.3f}{1e3 * term['measured_s']:9.3f}"
            f"{1e3 * (term['measured_s'] - predicted_s):+9.3f}",
            flush=True,
        )


def control_error(results: list[Result]) -> float:
    """Mean error of a control: the mean T of the other models of the space."""
    measured_s = [result.measured_s for result in results if result.model.startswith("cifar")]
    others_s = [(sum(measured_s) - own_s) / max(1, len(measured_s) - 1) for own_s in measured_s]
    off = [abs(other_s / own_s - 1) for other_s, own_s in zip(others_s, measured_s, strict=True)]
    return float(np.mean(off)) if off else float("nan")


def spread_of(results: list[Result]) -> float:
    """Ratio of the longest to the shortest measured T of the models of the space."""
    measured_s = [result.measured_s for result in results if result.model.startswith("cifar")]
    return max(measured_s) / min(measured_s) if measured_s else float("nan")


def terms_off(results: list[Result], kind: str) -> str:
    """Describe the errors of the predicted terms of a kind."""
    terms = [term for result in results for term in result.terms if term["kind"] == kind]
    off = [abs(term["predicted_s"] / term["measured_s"] - 1) for term in terms]
    off_ms = [1e3 * (term["predicted_s"] - term["measured_s"]) for term in terms]
    low_ms, high_ms = np.quantile(off_ms, (0.05, 0.95))
    return f"mean error {np.mean(off):.1%}, {low_ms:+.2f} to {high_ms:+.2f} ms (5 % to 95 %)"


def report(arguments: argparse.Namespace, results: list[Result], load: tuple[float, float, float]) -> None:
    """Print the means, write the JSON file, and list the bars that are missed."""
    short, means, bare = [], {}, {}
    for topology, bar in BARS.items():
        own = [result for result in results if result.topology == topology]
        if own:
            means[topology] = float(np.mean([result.error for result in own]))
            bare[topology] = float(np.mean([abs(result.bare_s / result.measured_s - 1) for result in own]))
            print(
                f"{topology}: mean |predicted / measured - 1| {means[topology]:.1%} (bar {bar:.0%}); "
                f"without serving overhead {bare[topology]:.1%}"
            )
            control, ratio = control_error(own), spread_of(own)
            print(f"    predicted as the mean T of the other models of the space: {control:.1%}")
            print(f"    T of these models spreads by {ratio:.2f} times (bar {SPREAD_BAR})")
            for kind in ("compute", "send"):
                print(f"    {kind} terms only: {terms_off(own, kind)}")
            if means[topology] > bar:
                short.append(f"{topology} {means[topology]:.1%} > {bar:.0%}")
            if not means[topology] < control:
                short.append(f"{topology} {means[topology]:.1%}: no better than the control, {control:.1%}")
            if not ratio >= SPREAD_BAR:
                short.append(f"{topology} T spreads by {ratio:.2f} < {SPREAD_BAR}")
    worst = max(result.difference for result in results)
    if worst > TOLERANCE:
        short.append(f"logits differ by {worst:.1e} > {TOLERANCE:.0e}")
    print(f"load average before the requests {load[0]:.2f}, {os.cpu_count()} cores shared by all agents")
    figures = {
        "load": load,
        "means": means,
        "means_without_overhead": bare,
        "results": [{**asdict(result), "error": result.error} for result in results],
    }
    finish(arguments, figures, short)


if __name__ == "__main__":
    main()
