"""Rates that `jmsnas topology collect` measures, against those that links are shaped to.

Agents in network namespaces, links of 25, 50 and 200 Mbit/s by `tc tbf` (link_namespaces.py), the chain of 4
and the mesh of 6. Printed for each link: the nominal rate, the measured one with its 95 % interval, the way
back, the rate under load, and the largest errors of epsilon (interpolated) and of the line `delay + 8 b /
rate` at sizes between the measured ones, measured afterwards.

Bars: every rate, there and back, within 5 % of the nominal one; epsilon within 10 %. Needs root; otherwise
it prints "not run", and `--check` exits with 1.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from deploy_fidelity import agents, cannot_run
from deploy_networks import DEVICES, PAIRS
from harness import Figures, benchmark_parser, finish
from link_namespaces import RATES_MBPS

from jmsnas.deploy.collect_topology import NO_TREE, collect_topology
from jmsnas.deploy.transport.devices_file import write_devices_file
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.topology import Link
from jmsnas.workspace import Workspace

_BAR, _EPSILON_BAR = 0.05, 0.1
_OTHER_SIZES = (9_000, 36_000, 150_000)
TREES = {"chain": NO_TREE, "mesh": ("sbs", ("mbs1", "mbs2", "mbs3"))}


def collect(name: str, runs: int) -> list[Figures]:
    """Collect a topology several times; return the figures of its links."""
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="jmsnas-") as folder,
        agents(DEVICES[name], PAIRS[name], Path(folder)) as (leader, _),
    ):
        workspace = Workspace(Path(folder))
        write_devices_file(workspace.devices_file, leader.agents)
        for _ in range(runs):
            topology, _ = collect_topology(workspace, "lab", TREES[name], warn=print)
            again = leader.measure_links(PAIRS[name], _OTHER_SIZES)
            found += [figures(link, again[link.source, link.target]) for link in topology.links]
    return found


def figures(link: Link, again: MeasuredLink) -> Figures:
    """Return the figures of one link, rates in Mbit/s, and its errors at other sizes, measured `again`."""
    own = link.measured
    assert own and own.back_rate_bps and own.loaded_rate_bps
    points = list(zip(again.sizes, again.medians_s, strict=True))
    line = replace(link, measured=None)
    return {
        "link": f"{link.source} -> {link.target}",
        "nominal": RATES_MBPS.get(link.source, 200),
        "rate": link.capacity_bps / 1e6,
        "low": own.rate_interval_bps[0] / 1e6,
        "high": own.rate_interval_bps[1] / 1e6,
        "back": own.back_rate_bps / 1e6,
        "loaded": own.loaded_rate_bps / 1e6,
        "delay_s": link.delay_s,
        "epsilon_error": max(abs(link.epsilon_s(size) / median_s - 1) for size, median_s in points),
        "line_error": max(abs(line.epsilon_s(size) / median_s - 1) for size, median_s in points),
        "measured": asdict(own),
    }


def report(rows: Sequence[Figures]) -> list[str]:
    """Print the figures; return a line for each rate that misses the bar."""
    heads = f"{'link':16} {'nominal':>8} {'rate':>8} {'95 % interval':>18} {'back':>8} {'loaded':>8}"
    print(f"{heads} {'epsilon':>8} {'line':>8}")
    missed = []
    for row in rows:
        interval = f"{row['low']:.2f} to {row['high']:.2f}"
        print(
            f"{row['link']:16} {row['nominal']:8} {row['rate']:8.2f} {interval:>18} {row['back']:8.2f} "
            f"{row['loaded']:8.2f} {row['epsilon_error']:8.1%} {row['line_error']:8.1%}"
        )
        for way in ("rate", "back"):
            error = row[way] / row["nominal"] - 1
            if abs(error) > _BAR:
                missed.append(f"{row['link']} {way}: {error:+.1%}, expected within {_BAR:.0%}")
        if row["epsilon_error"] > _EPSILON_BAR:
            missed.append(f"{row['link']} epsilon: {row['epsilon_error']:.1%}, expected {_EPSILON_BAR:.0%}")
    return missed


if __name__ == "__main__":
    parser = benchmark_parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="times that each topology is collected")
    arguments = parser.parse_args()
    if cannot_run():
        raise SystemExit(int(arguments.check))
    found = [row for name in TREES for row in collect(name, arguments.runs)]
    print(f"load average {os.getloadavg()[0]:.1f}")
    finish(arguments, {"links": found}, report(found))
