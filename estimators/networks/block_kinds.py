"""Models as counts of distinct blocks (kinds), and the features of each kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.errors import EstimatorError
from jmsnas.estimators.regression.features import ROOFLINE, columns, features, group_ids
from jmsnas.space import Block, Part

# The image size is a choice, not part of the layer: blocks of similar sizes are similar.
_LAYER = ("in_channels", "out_channels", "stride")
_CHOSEN = ("log_kernel_size", "log_expansion", "shortcut", "identity", "log_pixels")


@dataclass(frozen=True, slots=True)
class BlockKinds:
    """Features of the distinct blocks that models are made of.

    Attributes
    ----------
    work
        (kinds, amounts) MACs, bytes, launches and so on, each >= 0, in any unit.
    layer
        (kinds,) layer number; blocks of different layers share nothing but rates.
    choices
        (kinds, choices) the choices at the layer as numbers that are close for similar blocks, as logarithms
        of kernel size and expansion.
    """

    work: FloatArray
    layer: IntArray
    choices: FloatArray

    def __post_init__(self) -> None:
        """Raise EstimatorError for shapes that do not fit or invalid numbers."""
        kinds = len(self.layer)
        if self.work.shape[:1] != (kinds,) or self.choices.shape[:1] != (kinds,) or self.layer.ndim != 1:
            raise EstimatorError(
                f"got work of shape {self.work.shape}, layers of shape {self.layer.shape} and choices of "
                f"shape {self.choices.shape}: expected (kinds, amounts), (kinds,) and (kinds, choices)"
            )
        if not (np.isfinite(self.work).all() and (self.work >= 0).all() and np.isfinite(self.choices).all()):
            raise EstimatorError("got work that is negative, or work or choices that are not finite numbers")


def block_kinds_of(blocks: Sequence[Block]) -> BlockKinds:
    """Make the features of the blocks of a search space, in their order."""
    table = features(blocks)
    return BlockKinds(table[:, columns(ROOFLINE)], group_ids(table, _LAYER), table[:, columns(_CHOSEN)])


def count_blocks(networks: Sequence[Part], blocks: Sequence[Block]) -> FloatArray:
    """Count `blocks` in each network, (networks, blocks); raises EstimatorError for any other block."""
    column = {block: index for index, block in enumerate(blocks)}
    counts = np.zeros((len(networks), len(blocks)))
    for row, network in zip(counts, networks, strict=True):
        for block in network.blocks:
            if block not in column:
                raise EstimatorError(f"got a network with {block}, which is none of the {len(blocks)} kinds")
            row[column[block]] += 1
    return counts
