"""Generate blocks of other widths and resolutions than those of a search space, to train estimators.

A space has few layer geometries, in which widths and resolutions are correlated. These blocks cover the range
of each size evenly in its logarithm, by a scrambled Sobol sequence (Owen, ACM TOMACS 8(1), 1998).
"""

import math
from collections.abc import Iterator

import numpy as np
from scipy.stats import qmc

from jmsnas.cost import cost
from jmsnas.space import Block, Candidate, Layer, SearchSpace

# How far beyond the space: factors on its smallest and largest width, and on its largest block's MACs.
_MIN_WIDTH_FACTOR, _MAX_WIDTH_FACTOR, _MAX_MACS_FACTOR = 0.5, 1.5, 2
_WIDTH_STEP = 4
# Sobol points are balanced in powers of 2. A small range has few blocks beyond those of this many points.
_POINTS, _MAX_POINTS = 256, 1 << 14


def off_grid_blocks(space: SearchSpace, count: int, seed: int = 0) -> tuple[Block, ...]:
    """Generate blocks that are not in a space, spread evenly over its layer geometries and somewhat beyond.

    Channels in and out (multiples of 4) range from half the smallest to 1.5 times the largest width of the
    space, square feature maps over its range of sizes; stride is 1 or 2. Kernel size, expansion and
    shortcut are those of a candidate of the space; a shortcut keeps the shape. No block has more than twice
    the MACs of the space's largest.

    Fewer than `count` are returned where the range of a small space has no more, none where it has no MBConv;
    a larger count starts with the same blocks. `seed` is that of the scrambling.
    """
    known = set(space.blocks())
    max_macs = _MAX_MACS_FACTOR * max(cost(block).macs for block in known)
    found: dict[Block, None] = {}
    for block in _sobol_blocks(space, seed):
        if len(found) >= count:
            break
        if block not in known and cost(block).macs <= max_macs:
            found[block] = None
    return tuple(found)


def _sobol_blocks(space: SearchSpace, seed: int) -> Iterator[Block]:
    candidates = _bottlenecks(space)
    if not candidates:
        return
    layers = [layer for layer in space.layers if layer.role == "block"]
    widths = [width for layer in layers for width in (layer.in_channels, layer.out_channels)]
    narrowest = math.ceil(max(_MIN_WIDTH_FACTOR * min(widths), 1) / _WIDTH_STEP)
    widest = max(math.floor(_MAX_WIDTH_FACTOR * max(widths) / _WIDTH_STEP), narrowest)
    sizes = [size for layer in layers for size in (layer.height, layer.width)]
    sequence = qmc.Sobol(5, seed=np.random.default_rng(seed))
    for _ in range(_MAX_POINTS // _POINTS):
        for u_in, u_out, u_size, u_stride, u_candidate in sequence.random(_POINTS).tolist():
            candidate = candidates[int(u_candidate * len(candidates))]
            in_channels = _WIDTH_STEP * _log_interpolate(u_in, narrowest, widest)
            out_channels = _WIDTH_STEP * _log_interpolate(u_out, narrowest, widest)
            size, stride = (_log_interpolate(u_size, min(sizes), max(sizes)), 1 + int(2 * u_stride))
            if candidate.shortcut:
                out_channels, stride = in_channels, 1
            yield Block(candidate, Layer(in_channels, out_channels, stride, size, size))


def _bottlenecks(space: SearchSpace) -> list[Candidate]:
    found = dict.fromkeys(candidate for choices in space.choices for candidate in choices)
    return [candidate for candidate in found if candidate.operation.form == "bottleneck"]


def _log_interpolate(u: float, low: int, high: int) -> int:
    """Return the integer at the share `u` of the logarithmic range from `low` to `high`."""
    return min(int(low * ((high + 1) / low) ** u), high)
