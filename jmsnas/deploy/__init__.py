"""Deploy a split model on devices: parts, agents, the leader, and predicted against measured latency."""

import os

from jmsnas.callable_package import make_callable

# gRPC reads this when it is imported. It logs a line for every failed handshake, which anybody who can reach
# an agent could use to fill its disk.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
make_callable(__name__)
