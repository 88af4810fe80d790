"""Profiler: measure the latency of every block of a search space on a device."""
