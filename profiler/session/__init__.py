"""A profiling session: isolated processes, each row kept as it is finished."""
