"""Show: one HTML page and pictures of a finished run."""
