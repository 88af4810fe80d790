"""Latency of whole models: from measured models, and from sums of blocks."""
