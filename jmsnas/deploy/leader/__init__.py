"""The leader's side: plans, ships parts, sends images, puts prediction beside measurement."""
