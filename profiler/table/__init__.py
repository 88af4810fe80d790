"""Latency tables: rows, Parquet files, write-ahead journal, noise floor and trust levels."""
