"""A steady load on a chain of four agents: 1,000 requests a second of 512 B for 60 s, with mutual TLS.

All run on loopback, one process each. A request is due every millisecond, whatever becomes of those before
it; with 8 under way (the agents queue as many) it is sent when one of them has ended. Its latency counts from
the moment at which it was due, so that a delay of the agents is not hidden. Printed: latency, the rate
reached, and the processor time of a request. Checked: no request is lost or refused, the rate is reached
within 1 %, and the memory of no agent grows by more than 4 MB after the first tenth of the requests.
"""

import argparse
import os
import threading
import time
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

from deploy_overhead import AgentChain, quantiles
from harness import benchmark_parser, finish
from processes import cpu_s, resident_bytes

from jmsnas.errors import DeployError

AGENTS, SIZE_BYTES, WINDOW = 4, 512, 8
GROWTH_BAR_BYTES, RATE_BAR = 4 << 20, 0.99
_TIMEOUT_S = 10.0


class Waiter:
    """A thread that waits for the responses in the order of the requests."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.errors: list[str] = []
        self.places = threading.Semaphore(WINDOW)
        self._sent: SimpleQueue[tuple[float, Any] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def add(self, due_s: float, wait: Any) -> None:
        """Wait for a response, whose request was due at a moment of the monotonic clock."""
        self._sent.put((due_s, wait))

    def end(self) -> None:
        """Return after the last response."""
        self._sent.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (entry := self._sent.get()) is not None:
            due_s, wait = entry
            try:
                wait()
                self.latencies_s.append(time.monotonic() - due_s)
            except DeployError as error:
                self.errors.append(str(error))
            self.places.release()


def load(chain: AgentChain, rate: float, count: int) -> Waiter:
    """Send requests at a rate, and wait for all responses."""
    waiter, began_s = Waiter(), time.monotonic()
    for number in range(count):
        due_s = began_s + number / rate
        if (early_s := due_s - time.monotonic()) > 0:
            time.sleep(early_s)
        waiter.places.acquire()
        try:
            waiter.add(due_s, chain.leader.start(chain.x, _TIMEOUT_S))
        except DeployError as error:
            waiter.errors.append(str(error))
            waiter.places.release()
    waiter.end()
    return waiter


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    return parser.parse_args()


def main() -> None:
    """Measure, print, check."""
    arguments, before = parse_arguments(), os.getloadavg()
    rate, count = arguments.rate, int(arguments.rate * arguments.seconds)
    with ExitStack() as stack:
        chain = AgentChain(AGENTS, False, stack)
        chain.set_size(SIZE_BYTES)
        pids = {name: agent.process.pid for name, agent in chain.agents.items()}
        first = load(chain, rate, count // 10)
        grown = {name: -resident_bytes(pid) for name, pid in pids.items()}
        used_s, began_s = {name: -cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
        rest = load(chain, rate, count - count // 10)
        reached = (count - count // 10) / (time.monotonic() - began_s)
        for name, pid in pids.items():
            grown[name] += resident_bytes(pid)
            used_s[name] += cpu_s(pid)
    errors = first.errors + rest.errors
    p50, p95, p99 = (1e3 * second for second in quantiles(rest.latencies_s))
    print(f"{count} requests, {len(errors)} lost; {reached:.0f} a second of {rate:.0f} that were due")
    print(f"latency from the moment a request was due: p50 {p50:.2f}, p95 {p95:.2f}, p99 {p99:.2f} ms")
    for name in pids:
        request_us = 1e6 * used_s[name] / len(rest.latencies_s)
        print(f"{name}: {grown[name] / 2**20:+.1f} MB, {request_us:.0f} us of processor time a request")
    print(f"load average before {before[0]:.2f}, after {os.getloadavg()[0]:.2f}; {os.cpu_count()} cores")
    short = [f"{len(errors)} requests lost, such as: {errors[0]}"] if errors else []
    short += [f"{reached:.0f} requests a second < {RATE_BAR * rate:.0f}"] if reached < RATE_BAR * rate else []
    short += [
        f"{name}: memory grew by {size / 2**20:.1f} MB > {GROWTH_BAR_BYTES / 2**20:.0f}"
        for name, size in grown.items()
        if size > GROWTH_BAR_BYTES
    ]
    figures = {"load": before, "requests": count, "lost": len(errors), "rate": reached, "grown_bytes": grown}
    finish(arguments, {**figures, "latency_ms": [p50, p95, p99], "cpu_s": used_s}, short)


if __name__ == "__main__":
    main()
