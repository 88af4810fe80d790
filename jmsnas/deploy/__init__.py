"""Run the parts on the devices: parts, agents, the leader, and prediction beside measurement."""

import os

# gRPC, which reads this as it is imported, writes a line for every handshake that fails: strangers would fill
# an agent's disk.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
