"""Latency tables: rows, Parquet files, the journal, and how far a row can be trusted."""
