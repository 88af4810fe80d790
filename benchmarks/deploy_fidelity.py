"""Compare predicted and measured T of 4 agents in a chain and 6 in a mesh, in network namespaces.

Each agent is a process in its own namespace, one thread, batch 1. Links have 25, 50 and 200 Mbit/s as in
Table I (link_namespaces.py). Predicted: equations (1) and (2) from U(.) of this host (measured here, in
onnxruntime), from link measurements of the leader, and from the serving overhead of two reference models.
Measured: the median of T over `--requests` requests, from the image's arrival at the first device to the
result at the last. Models: random ones of the `cifar` space, and MobileNetV2 at 224. All processes share the
cores of this machine; its load is printed.

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
from deploy_networks import DEVICES, PAIRS, Blocks, Result, Tau, benchmark_models, evaluate, split, to_profile
from harness import benchmark_parser, finish
from link_namespaces import namespace, namespaces

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.loopback import leader_certs, loopback_agents
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.profiler.profile import ProfileOptions, update_table
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.space import BlockOrPart

BARS, TOLERANCE = {"chain": 0.05, "mesh": 0.08}, 1e-4


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
    nets, chosen = benchmark_models(arguments.models, arguments.seed), arguments.topology or list(DEVICES)
    with ExitStack() as stack:
        folder = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jmsnas-")))
        folder.mkdir(parents=True, exist_ok=True)
        tau, load = profiled(to_profile(nets), folder, arguments), os.getloadavg()
        for topology in chosen:
            run(topology, nets, tau, folder, arguments, began)
        results = [Result(**json.loads(file.read_text())) for file in sorted(folder.glob("result-*.json"))]
    results = [result for result in results if result.topology in chosen and result.model in nets]
    if len(results) < len(nets) * len(chosen):
        print(f"{len(results)} of {len(nets) * len(chosen)} done: run the same command to continue")
        raise SystemExit(int(arguments.check))
    report(arguments, results, load)


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
    nets: dict[str, Blocks],
    tau: Tau,
    folder: Path,
    arguments: argparse.Namespace,
    began: float,
) -> None:
    """Measure the remaining models over a topology, and save each result in a file."""
    files = {name: folder / f"result-{topology}-{name.replace(' ', '_')}.json" for name in nets}
    left = [name for name in nets if not files[name].exists()]
    if not left or time.monotonic() - began > arguments.stop_after:
        return
    with (
        tempfile.TemporaryDirectory(prefix="jmsnas-") as folder,
        agents(DEVICES[topology], PAIRS[topology], Path(folder)) as (leader, _),
    ):
        for name in left:
            if time.monotonic() - began > arguments.stop_after:
                return
            result = evaluate(name, split(topology, nets[name], tau), tau, leader, arguments.requests)
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
            print(f"    predicted as the mean T of the other models of the space: {control_error(own):.1%}")
            for kind in ("compute", "send"):
                print(f"    {kind} terms only: {terms_off(own, kind)}")
            if means[topology] > bar:
                short.append(f"{topology} {means[topology]:.1%} > {bar:.0%}")
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
