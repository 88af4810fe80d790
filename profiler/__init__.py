"""Profiler: latency of every block of a search space on a device, measured or simulated."""
