"""What the host is, and what disturbs a measurement on it."""
