"""A leader in its own process, to be killed while it ships, or timed as it restarts."""

import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from deployments import images, network, pieces

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.loopback import leader_certs
from jmsnas.deploy.parts.export import cached_export
from jmsnas.deploy.transport.devices_file import AgentAddress


def ship(folder: Path, addresses: dict[str, AgentAddress], seed: int, pipe: Connection) -> None:
    """Start, load cached exports, ship, send a request; report each step and the seconds since the start.

    The process was forked from one that had imported everything, so that imports are not included.
    """
    began = time.monotonic()
    pipe.send(("begins", 0.0, None))
    made = cached_export(network(seed), (1, 1, 8, 8), folder / "cache")
    leader = Leader(leader_certs(folder), addresses)
    sent = leader.ship(pieces(), {"chain": made})
    (x,) = images(1)
    logits = leader.infer(x).logits
    seconds = time.monotonic() - began
    np.testing.assert_allclose(logits, made.run(x), atol=1e-4)
    pipe.send(("answered", seconds, sent))
    leader.close()
