"""Import and export of latency tables: look-up tables in YAML, CSV, published Parquet."""
