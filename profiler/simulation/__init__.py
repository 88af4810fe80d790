"""Simulated devices: block latencies from a roofline of published figures."""
