"""Predict: U(.), the latency of a block on a device, fitted to a table."""
