"""What is drawn, and from what: a generator for every purpose, epoch and image, from one seed.

An order that is a function of (seed, purpose, epoch) needs no state of its own: a search that goes on after
a kill draws what it would have drawn.
"""

import hashlib

import torch


def derive_seed(seed: int, purpose: str, *numbers: int) -> int:
    """Hash a seed, a purpose and further numbers to 63 bits: the seed of whatever is drawn for it."""
    text = " ".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seeded_generator(seed: int, purpose: str, *numbers: int) -> torch.Generator:
    """Make the generator of a seed, a purpose and further numbers."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *numbers))
