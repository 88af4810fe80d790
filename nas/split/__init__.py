"""Splits of a given model over devices: exact solvers for chains, meshes, DAGs, and published methods."""
