"""Deploy a split model on devices: parts, agents, the leader, and predicted against measured latency."""

import os

from jmsnas.callable_package import make_callable

# gRPC reads this when it is imported. By default it logs a line for every failed handshake, with which any
# host on the network could fill the disk of an agent.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
make_callable(__name__)
