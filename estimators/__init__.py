"""Latency estimators U(.): the latency of a block on a device, fitted to a latency table."""
