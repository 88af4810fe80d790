"""Does predicted T hold on real links? Chain of 4 and mesh of 6 agents in namespaces, links by `tc tbf`.

Each agent is a process in a namespace of its own, one thread, batch 1. Links are 25, 50 and 200 Mbit/s as in
Table I (link_namespaces.py). Predicted: equations (1) and (2) from U(.) of this host (measured here, in
onnxruntime) and from links that the tool itself measured. Measured: the median over `--requests` requests of
T, from the image's arrival at the first device to the result at the last. Networks: random ones of the
`cifar` space, and MobileNetV2 at 224. All processes share this machine's cores: its load is stated.

Needs root (namespaces). Without, it says "not run", and `--check` exits 1.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from deploy_networks import CHAIN, MESH, Result, Tau, chain, mesh, networks
from link_namespaces import namespace, namespaces

from jmsnas.deploy.fleet import Address
from jmsnas.deploy.leader import Leader
from jmsnas.deploy.local import leader_certs, local_agents
from jmsnas.profiler.environment import describe_host
from jmsnas.profiler.sweep import profile
from jmsnas.profiler.table import Key
from jmsnas.space import Block, Subject

CHAIN_BAR, MESH_BAR, TOLERANCE = 0.05, 0.08, 1e-4


@contextmanager
def agents(names: Sequence[str], links: Sequence[tuple[str, str]], folder: Path) -> Iterator[Leader]:
    """Start an agent in each namespace, and give their leader."""
    with ExitStack() as stack:
        where = stack.enter_context(namespaces(names, links))
        found: dict[str, Address] = {}
        for name in names:
            prefix = ("ip", "netns", "exec", namespace(name))
            one = stack.enter_context(local_agents((name,), folder, prefix=prefix, host=where[name]))
            found[name] = one[name].address
        leader = Leader(leader_certs(folder), found)
        stack.callback(leader.close)
        yield leader


def subjects(nets: dict[str, tuple[Block, ...]]) -> list[Subject]:
    """Every block, each once."""
    return list(dict.fromkeys(block for blocks in nets.values() for block in blocks))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", type=int, default=10, help="random networks of the cifar space")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds to profile this host with")
    parser.add_argument("--topology", choices=("chain", "mesh"), action="append")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        print("not run: network namespaces need root, ip and tc")
        return 1 if arguments.check else 0
    nets = networks(arguments.networks, arguments.seed)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="jmsnas-") as folder:
        place = Path(folder)
        table = profile(
            "local",
            subjects(nets),
            [Key()],
            place / "local.parquet",
            cache=place / "cache",
            seed=arguments.seed,
            budget_s=arguments.budget,
            tell=lambda text: print(text, file=sys.stderr),
        )
        tau: Tau = {row.block: row.median_s for row in table.everything}
        load = os.getloadavg()
        chosen = arguments.topology or ["chain", "mesh"]
        if "chain" in chosen:
            links = list(zip(CHAIN, CHAIN[1:], strict=False))
            with agents(CHAIN, links, place) as leader:
                for name, blocks in nets.items():
                    results.append(show(chain(name, blocks, tau, leader, arguments.requests)))
        if "mesh" in chosen:
            links = [("ue", "sbs"), *(("sbs", c) for c in MESH[2:5]), *((c, "cloud") for c in MESH[2:5])]
            with agents(MESH, links, place) as leader:
                for name, blocks in nets.items():
                    results.append(show(mesh(name, blocks, tau, leader, arguments.requests)))
    return report(arguments, results, load)


def show(result: Result) -> Result:
    print(
        f"{result.topology:<6} {result.network:<18} predicted {1e3 * result.predicted_s:8.2f} ms  measured "
        f"{1e3 * result.measured_s:8.2f} ms  off {result.error:6.1%}  logits differ {result.difference:.1e}",
        flush=True,
    )
    return result


def report(arguments: Any, results: list[Result], load: tuple[float, float, float]) -> int:
    """Print the means, write the JSON file, and name what falls short."""
    short = []
    means = {}
    for topology, bar in (("chain", CHAIN_BAR), ("mesh", MESH_BAR)):
        errors = [result.error for result in results if result.topology == topology]
        if errors:
            means[topology] = float(np.mean(errors))
            print(f"{topology}: mean |predicted / measured - 1| {means[topology]:.1%} (bar {bar:.0%})")
            if means[topology] > bar:
                short.append(f"{topology} {means[topology]:.1%} > {bar:.0%}")
    worst = max(result.difference for result in results)
    if worst > TOLERANCE:
        short.append(f"logits differ by {worst:.1e} > {TOLERANCE:.0e}")
    print(f"load average before the requests {load[0]:.2f}, {os.cpu_count()} cores shared by all agents")
    if arguments.json:
        document = {
            "schema_version": 1,
            "machine": describe_host(),
            "load": load,
            "means": means,
            "results": [{**result.__dict__, "error": result.error} for result in results],
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    for line in short:
        print(f"falls short: {line}")
    return 1 if arguments.check and short else 0


if __name__ == "__main__":
    sys.exit(main())
