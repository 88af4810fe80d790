"""Latency estimators fitted to latency tables that others published."""
