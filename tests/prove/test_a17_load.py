"""A17: a steady load is served without errors, with constant memory and answers in time."""

import threading
import time
from pathlib import Path

import numpy as np
from deployments import images, pieces, segments
from prove.own_agents import own_agents, rss_bytes
from prove.proof import Proof

RATE_PER_S, SLOPE = 500, 1 << 20


def test_a_steady_load(tmp_path: Path, proof: Proof) -> None:
    seconds, clients = proof.count(3, prove=30, long=3600), 4
    # `make test` may run beside other work: there the rate is lower, and only errors fail the test.
    strict = seconds >= 30
    rate = RATE_PER_S if strict else 100
    taken: list[float] = []
    errors: list[Exception] = []
    sizes: list[tuple[float, int]] = []
    with own_agents(tmp_path, ("pi4",)) as own:
        own.leader.ship(pieces((6,), ("pi4",)), segments())
        (x,) = images(1)
        alone_s = float(np.quantile(own.request_times(x, 1000), 0.99))
        began = time.monotonic()

        def ask(first: int) -> None:
            for n in range(first, seconds * rate, clients):
                time.sleep(max(0.0, began + n / rate - time.monotonic()))
                sent = time.monotonic()
                try:
                    own.leader.infer(x, timeout_s=60.0)
                except Exception as error:  # any error counts
                    errors.append(error)
                taken.append(time.monotonic() - sent)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            sizes.append((time.monotonic() - began, rss_bytes(own.agents["pi4"].process.pid)))
            time.sleep(0.5)
        took_s = time.monotonic() - began
    assert not errors and len(taken) == seconds * rate
    p99 = float(np.quantile(taken, 0.99))
    later = [(t, rss) for t, rss in sizes if t > 10]
    slope = float(np.polyfit(*zip(*later, strict=True), 1)[0] * 60) if len(later) > 5 else 0.0
    if strict:
        assert slope < SLOPE and took_s < seconds * 1.1
    late = proof.within("p99", p99, 4, alone_s, "the p99 of requests one after another")
    proof.show(
        f"{len(taken)} requests at {len(taken) / took_s:.0f}/s: 0 errors, "
        f"p50 {1e3 * np.median(taken):.1f} ms, {late}, memory {slope / 2**20:+.2f} MB/min"
    )
