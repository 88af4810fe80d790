"""Overhead of the agents: latency of a hop, and there and back, compared with relays that check nothing.

Chains of 2 and 4 agents, one process each, on loopback, plain and with mutual TLS, relay tensors of 512 B,
150 KB and 1 MB; beside them chains of plain sockets, of mutual-TLS sockets and of nested gRPC calls
(bare_relays.py). All run in turns of a few requests, one at a time, in one run, so that the ratios are valid
on a busy machine. Requests are sent back to back, and 10 ms apart.

A hop is the time from the end of the computation on one device to the arrival on the next (the parts compute
nothing); of a bare relay from arrival to arrival. There and back is the time until the caller has the answer,
which is the tensor. Also measured: memory and CPU of an idle agent, and the modules its process has loaded.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from bare_relays import Echo, start_chain
from harness import benchmark_parser, finish
from processes import cpu_s, resident_bytes
from torch import nn

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.loopback import LoopbackAgent, leader_certs, loopback_agents
from jmsnas.deploy.parts.export import ExportedModel
from jmsnas.deploy.parts.shipment import NextHop, PartSpec

COUNTS, SIZES, GAPS_S = (2, 4), {"512 B": 512, "150 KB": 150 << 10, "1 MB": 1 << 20}, (0.0, 0.01)
RELAYS = {"bare sockets": "sockets", "bare mutual TLS": "tls", "gRPC": "grpc"}
# Of agents with mutual TLS over bare mutual TLS: a hop by size, there and back through 4 at 512 B; over gRPC.
HOP_BARS, BACK_BAR, GRPC_BAR = {"512 B": 2.5, "150 KB": 1.5, "1 MB": 1.5}, 2.5, 0.4
RSS_BAR, CPU_BAR = 160 << 20, 0.02
HEAVY = ("torch", "sklearn", "pandas", "matplotlib", "torchvision", "onnx", "pyarrow", "google.protobuf")
_TURN, _WARM_UP = 20, 20

# Sends a tensor through a chain and back: seconds of each hop.
Way = Callable[[], list[float]]


class AgentChain:
    """A chain of agents that relay tensors of the size that was set last."""

    def __init__(self, count: int, plain: bool, stack: ExitStack) -> None:
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jmsnas-")))
        names = [f"device{n}" for n in range(count)]
        self.agents = stack.enter_context(loopback_agents(names, self.folder, plain))
        addresses = {name: agent.address for name, agent in self.agents.items()}
        self.leader = Leader(leader_certs(self.folder), addresses, plain)
        stack.callback(self.leader.close)
        self.x = np.zeros(1, np.float32)

    def set_size(self, size_bytes: int) -> None:
        """Ship parts without layers for tensors of a size."""
        shape, names = (1, 1, 1, size_bytes // 4), list(self.agents)
        nothing = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 20}), ir_version=10)
        model = ExportedModel(nn.Sequential(), nothing, (), (shape,))
        hops = [(NextHop(name),) for name in names[1:]] + [()]
        specs = (PartSpec(name, "chain", 1, 0, to) for name, to in zip(names, hops, strict=True))
        self.leader.ship(tuple(specs), {"chain": model})
        self.x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def echo(self) -> list[float]:
        """Send a tensor through the chain and back; return the seconds of each hop."""
        trail = self.leader.infer(self.x).trail
        pairs = zip(trail, trail[1:], strict=False)
        return [1e-9 * (after.received_ns - before.ended_ns) for before, after in pairs]


def relayed(echo: Echo, body: bytes) -> list[float]:
    """Send a message through bare relays and back; return the seconds of each hop."""
    times = echo(body)
    return [1e-9 * (after - before) for before, after in zip(times, times[1:], strict=False)]


def measure(ways: dict[str, Way], gap_s: float, requests: int) -> dict[str, dict[str, list[float]]]:
    """Send requests in each way, in turns; return quantiles of its hops and there and back, seconds."""
    hops: dict[str, list[float]] = {name: [] for name in ways}
    backs: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        for _ in range(_WARM_UP):
            way()
    for _ in range(-(-requests // _TURN)):
        for name, way in ways.items():
            for _ in range(_TURN):
                time.sleep(gap_s)
                began_s = time.perf_counter()
                own = way()
                backs[name].append(time.perf_counter() - began_s)
                hops[name] += own
    return {name: {"hop_s": quantiles(hops[name]), "back_s": quantiles(backs[name])} for name in ways}


def quantiles(seconds: Sequence[float]) -> list[float]:
    """Return the 50th, 95th and 99th percentile."""
    return [float(value) for value in np.quantile(seconds, (0.5, 0.95, 0.99))]


def compare(count: int, arguments: argparse.Namespace, stack: ExitStack) -> list[dict[str, Any]]:
    """Measure chains of `count` in all ways, sizes and gaps, and print them."""
    chains = {"agents, plain": AgentChain(count, True, stack), "agents, TLS": AgentChain(count, False, stack)}
    certs = chains["agents, TLS"].folder / "certs" / "device0"
    echoes = {name: start_chain(kind, count, certs, stack) for name, kind in RELAYS.items()}
    rows = []
    for size, size_bytes in SIZES.items():
        body = bytes(size_bytes)
        ways: dict[str, Way] = {name: lambda e=echo, b=body: relayed(e, b) for name, echo in echoes.items()}
        for name, chain in chains.items():
            chain.set_size(size_bytes)
            ways[name] = chain.echo
        for gap_s in GAPS_S:
            requests = arguments.apart if gap_s else min(arguments.requests, (200 << 20) // size_bytes)
            found = measure(ways, gap_s, requests)
            rows.append({"agents": count, "size": size, "gap_s": gap_s, "ways": found})
            show(rows[-1])
    return rows


def show(row: dict[str, Any]) -> None:
    """Print the quantiles of all ways, in microseconds."""
    when = f"{1e3 * row['gap_s']:.0f} ms apart" if row["gap_s"] else "back to back"
    print(f"\n{row['agents']} agents, {row['size']}, {when}: us, p50 p95 p99")
    for name, found in row["ways"].items():
        texts = (" ".join(f"{1e6 * s:8.0f}" for s in found[key]) for key in ("hop_s", "back_s"))
        print("  {:<16} hop {}   there and back {}".format(name, *texts), flush=True)


def ratios(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """List the ratios that have a bar: what, value, bar."""
    found = []
    for row in rows:
        tls, bare, grpc = (row["ways"][name] for name in ("agents, TLS", "bare mutual TLS", "gRPC"))
        where = f"{row['agents']} agents, {row['size']}, {1e3 * row['gap_s']:.0f} ms apart"
        found.append((f"hop over bare TLS, {where}", ratio(tls, bare, "hop_s"), HOP_BARS[row["size"]]))
        if row["size"] == "512 B":
            found.append((f"hop over gRPC, {where}", ratio(tls, grpc, "hop_s"), GRPC_BAR))
            if row["agents"] == 4:
                found.append((f"there and back over bare TLS, {where}", ratio(tls, bare, "back_s"), BACK_BAR))
    return found


def ratio(one: dict[str, list[float]], other: dict[str, list[float]], key: str) -> float:
    """Return the ratio of two medians."""
    return one[key][0] / other[key][0]


def idle(agent: LoopbackAgent, seconds: float) -> tuple[int, float]:
    """Memory in bytes, and share of a core, of an idle agent."""
    pid = agent.process.pid
    before_s = cpu_s(pid)
    time.sleep(seconds)
    return resident_bytes(pid), (cpu_s(pid) - before_s) / seconds


def loaded() -> list[str]:
    """Heavy modules that an agent's process has loaded."""
    script = f"import sys, jmsnas.deploy.agent.agent; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="back to back, in each way; fewer of 1 MB")
    parser.add_argument("--apart", type=int, default=200, help="requests 10 ms apart, in each way")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and check."""
    arguments, load, rows = parse_arguments(), os.getloadavg(), list[dict[str, Any]]()
    for count in COUNTS:
        with ExitStack() as stack:
            rows += compare(count, arguments, stack)
    with ExitStack() as stack:
        chain = AgentChain(2, False, stack)
        chain.set_size(512)
        chain.echo()
        rss, cpu = idle(chain.agents["device0"], 10.0)
    heavy = loaded()
    print(f"\nidle agent: {rss / 2**20:.0f} MB, {cpu:.1%} of a core; heavy modules loaded: {heavy or 'none'}")
    found = (
        *ratios(rows),
        ("memory of an idle agent, bytes", rss, RSS_BAR),
        ("CPU of an idle agent, cores", cpu, CPU_BAR),
        ("heavy modules", len(heavy), 0),
    )
    for name, value, bar in found:
        print(f"{name:<60} {value:10.3g}   bar {bar:g}")
    print(f"load average before {load[0]:.2f}, after {os.getloadavg()[0]:.2f}; {os.cpu_count()} cores")
    short = [f"{name}: {value:.3g} > {bar:.3g}" for name, value, bar in found if value > bar]
    figures = {"load": load, "rows": rows, "ratios": {name: value for name, value, _ in found}}
    finish(arguments, {**figures, "idle_rss_bytes": rss, "idle_cores": cpu, "heavy_modules": heavy}, short)


if __name__ == "__main__":
    main()
