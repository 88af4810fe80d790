"""Parts of a model: export, signed manifests, file checks, and runtimes."""
