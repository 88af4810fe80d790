"""Run the parts on the devices: parts, agents, the leader, and prediction beside measurement."""
