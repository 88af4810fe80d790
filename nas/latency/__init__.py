"""Latency T of every architecture of a search space over a topology: U(.) as arrays, E[T], allowed splits."""
