"""The quality gate: whether a latency table is worth fitting to."""
