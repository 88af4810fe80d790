"""Load on `jmsnas serve`: the highest rate that it holds over HTTP, and a killed device under load.

Four agents and the server run on loopback, one process each, with mutual TLS between them; the client sends
digits by the binary extension, over eight connections. A request is due at a fixed rate, whatever becomes of
those before it, and its latency counts from that moment. A rate is held if 99 % of it is reached and every
request is answered. The rates are tried from the highest to the lowest for five seconds each, and the first
that is held is then sent for `--seconds`. After that an agent is killed under a tenth of it: every request
must be answered or fail with a code, and the others continue (`--replan`).

Checked: 500 requests a second are held; no request is lost; the server answers again within 10 s of the kill.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from deploy_overhead import quantiles
from harness import benchmark_parser, finish
from processes import cpu_s

import jmsnas
from jmsnas.deploy.loopback import loopback_agents
from jmsnas.errors import JmsnasError

DEVICES, RUN = ("pi4", "laptop", "jetson", "cloud"), "serve"
RATES, CONNECTIONS, TRY_S, KILL_S = (1000, 750, 500, 400, 300, 200, 150, 100, 50), 8, 5.0, 12.0
RATE_BAR, SHARE_BAR, BACK_BAR_S = 500, 0.99, 10.0


class Load:
    """Requests sent at a rate: latencies of those answered, seconds, and the texts of the others' errors."""

    def __init__(self, url: str, rate: float, seconds: float) -> None:
        self.url, self.rate, self.count = url, rate, int(rate * seconds)
        self.latencies_s: list[float] = []
        self.answered_s: list[float] = []
        self.errors: Counter[str] = Counter()
        self._next, self._lock = 0, threading.Lock()

    def run(self) -> "Load":
        """Send all requests, and wait for their ends."""
        self.began_s = time.monotonic()
        threads = [threading.Thread(target=self._send) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.ended_s = time.monotonic()
        return self

    def _send(self) -> None:
        x = np.zeros((1, 1, 8, 8), np.float32)
        with jmsnas.Client(self.url, timeout_s=30) as client:
            while (number := self._take()) < self.count:
                due_s = self.began_s + number / self.rate
                if (early_s := due_s - time.monotonic()) > 0:
                    time.sleep(early_s)
                try:
                    client.infer(x)
                    now_s = time.monotonic()
                    self.latencies_s.append(now_s - due_s)
                    self.answered_s.append(now_s)
                except JmsnasError as error:
                    self.errors[str(error).partition(" answered ")[2][:3] or str(error)] += 1

    def _take(self) -> int:
        with self._lock:
            self._next += 1
            return self._next - 1

    @property
    def reached(self) -> float:
        """Requests that were answered in a second."""
        return len(self.latencies_s) / (self.ended_s - self.began_s)

    @property
    def held(self) -> bool:
        """Whether the rate was reached, and every request answered."""
        return not self.errors and self.reached >= SHARE_BAR * self.rate


@contextmanager
def server(workspace: Path) -> Iterator[tuple[str, Any]]:
    """Start `jmsnas serve --replan`; give its URL and process."""
    command = [sys.executable, "-m", "jmsnas", "serve", RUN, "--replan", "--port", "0", "--json"]
    process = subprocess.Popen([*command, "--workspace", str(workspace)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        text = ""
        while not text.endswith("\n}\n"):
            line = process.stdout.readline()
            if not line:
                raise SystemExit("the server has ended before it was ready")
            text += line
        yield str(json.loads(text)["url"]), process
    finally:
        process.terminate()
        process.wait()


def highest_rate(url: str, rates: Sequence[int]) -> int:
    """Return the first rate that is held for five seconds, else the last one."""
    for rate in rates:
        load = Load(url, rate, TRY_S).run()
        print(f"{rate} a second for {TRY_S:g} s: {load.reached:.0f} answered a second", flush=True)
        if load.held:
            return rate
    return rates[-1]


def kill_under_load(url: str, rate: float, agent: Any) -> tuple[Load, float]:
    """Kill an agent after a quarter of the load; return the load, and the longest time without an answer."""
    load = Load(url, rate, KILL_S)
    timer = threading.Timer(KILL_S / 4, agent.kill)
    timer.start()
    load.run()
    timer.join()
    moments = [load.began_s, *sorted(load.answered_s), load.ended_s]
    return load, float(np.diff(moments).max())


def main(arguments: argparse.Namespace) -> None:
    """Measure, print, check."""
    before, workspace = os.getloadavg(), arguments.work.resolve()
    if not (workspace / "runs" / RUN).exists():
        command = [sys.executable, "-m", "jmsnas", "search", "--topology", "chain", "--name", RUN]
        subprocess.run([*command, "--workspace", str(workspace)], check=True, stdout=subprocess.DEVNULL)
    with ExitStack() as stack:
        agents = stack.enter_context(loopback_agents(DEVICES, workspace))
        entry = '[[device]]\nname = "{}"\naddress = "{}"\nfingerprint = "{}"\n'
        addresses = [agent.address for agent in agents.values()]
        text = "".join(entry.format(one.name, one.address, one.fingerprint) for one in addresses)
        (workspace / "devices.toml").write_text(text)
        url, process = stack.enter_context(server(workspace))
        Load(url, 50, 2).run()
        rates = [arguments.rate] if arguments.rate else RATES
        rate = highest_rate(url, rates)
        pids = {"server": process.pid, **{name: agent.process.pid for name, agent in agents.items()}}
        used_s = {name: -cpu_s(pid) for name, pid in pids.items()}
        load = Load(url, rate, arguments.seconds).run()
        used_s = {name: seconds + cpu_s(pids[name]) for name, seconds in used_s.items()}
        killed, gap_s = kill_under_load(url, max(10.0, rate / 10), agents["jetson"])
    p50, p95, p99 = (1e3 * second for second in quantiles(load.latencies_s))
    print(
        f"{load.count} requests at {rate} a second: {load.reached:.1f} answered a second, "
        f"errors {dict(load.errors)}"
    )
    print(f"latency from the moment a request was due: p50 {p50:.2f}, p95 {p95:.2f}, p99 {p99:.2f} ms")
    per_request = ", ".join(f"{name} {1e6 * used_s[name] / load.count:.0f}" for name in used_s)
    print(f"processor time a request, us: {per_request}")
    print(
        f"jetson killed at {killed.rate:g} a second: {len(killed.latencies_s)} of {killed.count} answered, "
        f"errors {dict(killed.errors)}, {gap_s:.2f} s without an answer"
    )
    print(f"load average before {before[0]:.2f}, after {os.getloadavg()[0]:.2f}; {os.cpu_count()} cores")
    missed = [] if load.held and rate >= RATE_BAR else [f"{load.reached:.0f} requests a second < {RATE_BAR}"]
    ended = len(killed.latencies_s) + sum(killed.errors.values())
    if ended != killed.count or any(not code.isdigit() for code in killed.errors):
        missed.append(f"{killed.count - ended} requests lost, errors {dict(killed.errors)}")
    missed += [f"{gap_s:.1f} s without an answer > {BACK_BAR_S:g}"] if gap_s > BACK_BAR_S else []
    figures = {"load": before, "rate": rate, "reached": load.reached, "requests": load.count}
    figures |= {"latency_ms": [p50, p95, p99], "errors": dict(load.errors), "cpu_s": used_s}
    figures["kill"] = {
        "rate": killed.rate,
        "answered": len(killed.latencies_s),
        "errors": dict(killed.errors),
        "gap_s": gap_s,
    }
    finish(arguments, figures, missed)


if __name__ == "__main__":
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--rate", type=int, help="one rate, requests a second, instead of those that are tried"
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--work", type=Path, required=True, help="workspace: the run is kept there")
    main(parser.parse_args())
