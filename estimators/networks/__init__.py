"""From blocks to whole networks."""
