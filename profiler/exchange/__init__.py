"""Latency tables of others, in and out: look-up tables, CSV, published Parquet."""
