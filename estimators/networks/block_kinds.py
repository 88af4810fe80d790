"""Networks as counts of the kinds of block they are made of, and what is known of each kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import EstimatorError
from jmsnas.estimators.regression.features import ROOFLINE, columns, features
from jmsnas.space import Block, Part

Array = NDArray[np.float64]

# The size of the image is a choice: blocks of neighbouring sizes are alike.
_LAYER = ("in_channels", "out_channels", "stride")
_CHOSEN = ("log_kernel_size", "log_expansion", "shortcut", "identity", "log_pixels")


@dataclass(frozen=True, slots=True)
class BlockKinds:
    """The kinds of block that networks are made of.

    Attributes
    ----------
    work
        (kinds, amounts) MACs, bytes, launches and so on, each >= 0, in any unit.
    layer
        (kinds,) number of the layer it stands at; blocks of different layers share nothing but rates.
    choices
        (kinds, choices) what was chosen there, as numbers that are close where blocks are alike: logarithms
        of kernel size and expansion, say.

    Raises
    ------
    EstimatorError
        For shapes that do not fit, or work that is negative or not finite.
    """

    work: Array
    layer: NDArray[np.int64]
    choices: Array

    def __post_init__(self) -> None:
        """Refuse what does not describe blocks."""
        kinds = len(self.layer)
        if self.work.shape[:1] != (kinds,) or self.choices.shape[:1] != (kinds,) or self.layer.ndim != 1:
            raise EstimatorError(
                f"got work of shape {self.work.shape}, layers of shape {self.layer.shape} and choices of "
                f"shape {self.choices.shape}: expected (kinds, amounts), (kinds,) and (kinds, choices)"
            )
        if not (np.isfinite(self.work).all() and (self.work >= 0).all() and np.isfinite(self.choices).all()):
            raise EstimatorError("got work that is negative, or work or choices that are not finite numbers")


def block_kinds_of(blocks: Sequence[Block]) -> BlockKinds:
    """Describe the blocks of a search space, in their order."""
    table = features(blocks)
    _, layer = np.unique(table[:, columns(_LAYER)], axis=0, return_inverse=True)
    return BlockKinds(table[:, columns(ROOFLINE)], layer.reshape(-1), table[:, columns(_CHOSEN)])


def count_blocks(networks: Sequence[Part], blocks: Sequence[Block]) -> Array:
    """Count how often each of `blocks` stands in each network: (networks, blocks).

    Raises
    ------
    EstimatorError
        For a network with a block that is none of them.
    """
    column = {block: index for index, block in enumerate(blocks)}
    counts = np.zeros((len(networks), len(blocks)))
    for row, network in zip(counts, networks, strict=True):
        for block in network.blocks:
            if block not in column:
                raise EstimatorError(f"got a network with {block}, which is none of the {len(blocks)} kinds")
            row[column[block]] += 1
    return counts
