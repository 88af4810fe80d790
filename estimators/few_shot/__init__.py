"""U(.) from a few measured blocks: which to measure, and when it is enough."""
