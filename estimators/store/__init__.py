"""A fitted estimator on disk, and its model card."""
