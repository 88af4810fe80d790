"""Where to cut a given network: exact solvers for chains, meshes and DAGs, and the methods of others."""
