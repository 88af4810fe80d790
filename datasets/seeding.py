"""Seeds and torch generators derived from one seed, a purpose and further numbers such as the epoch.

An order that is a function of (seed, purpose, epoch) needs no state: a search that is resumed after a kill
draws the same numbers as one that was not interrupted.
"""

import hashlib

import torch


def derive_seed(seed: int, purpose: str, *numbers: int) -> int:
    """Hash a seed, a purpose and further numbers to a 63-bit seed."""
    text = " ".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seeded_generator(seed: int, purpose: str, *numbers: int) -> torch.Generator:
    """Make a torch generator from a seed, a purpose and further numbers."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *numbers))
