"""Blocks between and around those of a space: what an estimator learns geometry from.

A space has few layer geometries, in which widths and maps move together. These blocks fill the same range
evenly in the logarithm of each size, by a scrambled Sobol sequence (Owen, ACM TOMACS 8(1), 1998).
"""

import math
from collections.abc import Iterator

import numpy as np
from scipy.stats import qmc

from jmsnas.cost import cost
from jmsnas.space import Block, Candidate, Layer, SearchSpace

# How far beyond the space: its widths, and the multiply-accumulates of its largest block.
_NARROWER, _WIDER, _MORE_MACS = 0.5, 1.5, 2
_WIDTH_STEP = 4
# Sobol points are even in powers of 2. What a small range does not give in so many, it hardly has.
_POINTS, _MAX_POINTS = 256, 1 << 14


def off_grid_blocks(space: SearchSpace, count: int, seed: int = 0) -> tuple[Block, ...]:
    """Draw blocks that are not in a space, spread evenly over its geometry and somewhat beyond.

    Channels in and out (multiples of 4) go from half the smallest to 1.5 times the largest width of the
    space, square maps over its range of sizes; stride is 1 or 2. Kernel size, expansion and shortcut are
    those of a candidate of the space; a shortcut keeps the shape. No block has more than twice the MACs of
    the space's largest.

    Parameters
    ----------
    space
        Whose range, candidates and work bound the draw.
    count
        How many; fewer come where the range of a small space has no more, none where it has no MBConv to
        vary. The first n of a longer draw are the same blocks.
    seed
        Scrambles the sequence.
    """
    known = set(space.blocks())
    most_macs = _MORE_MACS * max(cost(block).macs for block in known)
    found: dict[Block, None] = {}
    for block in _drawn(space, seed):
        if len(found) >= count:
            break
        if block not in known and cost(block).macs <= most_macs:
            found[block] = None
    return tuple(found)


def _drawn(space: SearchSpace, seed: int) -> Iterator[Block]:
    candidates = _bottlenecks(space)
    if not candidates:
        return
    layers = [layer for layer in space.layers if layer.role == "block"]
    widths = [width for layer in layers for width in (layer.in_channels, layer.out_channels)]
    narrowest = math.ceil(max(_NARROWER * min(widths), 1) / _WIDTH_STEP)
    widest = max(math.floor(_WIDER * max(widths) / _WIDTH_STEP), narrowest)
    sizes = [size for layer in layers for size in (layer.height, layer.width)]
    sequence = qmc.Sobol(5, seed=np.random.default_rng(seed))
    for _ in range(_MAX_POINTS // _POINTS):
        for u_in, u_out, u_size, u_stride, u_candidate in sequence.random(_POINTS).tolist():
            candidate = candidates[int(u_candidate * len(candidates))]
            in_channels = _WIDTH_STEP * _between(u_in, narrowest, widest)
            out_channels = _WIDTH_STEP * _between(u_out, narrowest, widest)
            size, stride = _between(u_size, min(sizes), max(sizes)), 1 + int(2 * u_stride)
            if candidate.shortcut:
                out_channels, stride = in_channels, 1
            yield Block(candidate, Layer(in_channels, out_channels, stride, size, size))


def _bottlenecks(space: SearchSpace) -> list[Candidate]:
    found = dict.fromkeys(candidate for choices in space.choices for candidate in choices)
    return [candidate for candidate in found if candidate.operation.form == "bottleneck"]


def _between(u: float, low: int, high: int) -> int:
    """Give the integer from `low` to `high` that lies `u` of the way in the logarithm."""
    return min(int(low * ((high + 1) / low) ** u), high)
