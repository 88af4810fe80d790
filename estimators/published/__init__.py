"""U(.) of latency tables that others published."""
