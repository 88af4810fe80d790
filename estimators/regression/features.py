"""What a predictor of latency is told about a block: named numbers, one row a block.

Three groups of columns. GEOMETRY says which layer it is; ROOFLINE holds amounts of work, which a
non-negative sum turns into seconds (Williams et al., Roofline, CACM 52(4), 2009, summed over stages
because a batch of one overlaps little); RESIDUAL holds logarithms, for what the sum does not explain.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jmsnas.cost import Operator
from jmsnas.estimators.regression.block_shape import BlockShape, shape_of_block
from jmsnas.space import Block

GEOMETRY = ("in_channels", "out_channels", "height", "width", "stride")
CHANNEL_PAIR = ("in_channels", "out_channels")
_STAGES = ("expand", "depthwise", "project")
# Additions stand apart from other elementwise work: run times that fuse normalisation and activation
# into the convolution before them (onnxruntime) still launch the addition of a shortcut, and so the
# multiplication of squeeze-and-excitation, which counts as one.
ROOFLINE = (
    *(f"{stage}_macs" for stage in _STAGES),
    # Where a kernel's padding is wider than a row of its output (7x7 on 2x2) oneDNN's vectorised depthwise
    # convolution steps back for a slow one: `l_pad > ur_w` in jit_uni_dw_conv_kernel_utils.hpp.
    "overpadded_macs",
    *(f"{stage}_bytes" for stage in _STAGES),
    "elementwise_bytes",
    "addition_bytes",
    "parameter_bytes",
    "convolutions",
    "depthwise_convolutions",
    "elementwise_operators",
    "additions",
)
# Geometry alone: MACs and bytes are products of it, so their logarithms are sums of these, and with
# them the length scales of the Gaussian process were worse placed on layers it never saw.
RESIDUAL = (
    "log_in_channels",
    "log_out_channels",
    "log_middle_channels",
    "log_pixels",
    "log_stride",
    "log_kernel_size",
    "log_expansion",
    # Rows of 16 or 32 numbers take other paths than rows of 14 or 28: whole vectors, but also lines that
    # fall on the same place of a cache.
    "log_aligned_width",
    "log_groups",
    "log_squeezed_channels",
    "expands",
    "shortcut",
    "identity",
    "swish",
)
FEATURES = GEOMETRY + ROOFLINE + RESIDUAL

Array = NDArray[np.float64]

# What launching costs differs more between these than what they compute, where blocks are small.
_LAUNCHES = {
    "conv": "convolutions",
    "pointwise": "convolutions",
    "dense": "convolutions",
    "depthwise": "depthwise_convolutions",
    "add": "additions",
    "multiply": "additions",
}

# Float32; another number format changes all rows of a key alike, which the fitted rates take in.
_BYTES = 4
# Numbers; the lines of a cache and the widest vectors hold fewer.
_LONGEST_ALIGNMENT = 64


def features(blocks: Sequence[Block | BlockShape]) -> Array:
    """Describe blocks by numbers.

    Parameters
    ----------
    blocks
        Any blocks, of any spaces or published tables; the stem's convolution and the head's 1x1 count as
        `expand`, dense layers as `project`, so that they share rates with their like.

    Returns
    -------
    (blocks, len(FEATURES)), columns in the order of `FEATURES`: MACs, bytes, counts, natural logarithms.
    """
    return shape_features([each if isinstance(each, BlockShape) else shape_of_block(each) for each in blocks])


def shape_features(shapes: Sequence[BlockShape]) -> Array:
    """Describe shapes, of our blocks or of published ones, by the same numbers as `features`."""
    if not shapes:
        return np.empty((0, len(FEATURES)))
    return np.array([_row(shape) for shape in shapes], dtype=np.float64)


def columns(names: Sequence[str]) -> list[int]:
    """Positions of named columns in what `features` returns."""
    return [FEATURES.index(name) for name in names]


def group_ids(X: Array, names: Sequence[str] = GEOMETRY) -> NDArray[np.int64]:
    """Number what each row shares with its like, (rows,): its layer geometry, or other named columns."""
    _, found = np.unique(X[:, columns(names)], axis=0, return_inverse=True)
    return np.asarray(found, dtype=np.int64).reshape(-1)


def _row(shape: BlockShape) -> list[float]:
    work, out_width = _roofline(shape.operators), -(-shape.width // shape.stride)
    if shape.kernel_size // 2 > out_width:
        work["overpadded_macs"] = work["depthwise_macs"]
    sizes = (shape.in_channels, shape.out_channels, shape.middle_channels, shape.height * shape.width)
    return [
        *(shape.in_channels, shape.out_channels, shape.height, shape.width, shape.stride),
        *(work[name] for name in ROOFLINE),
        *(math.log(size) for size in sizes),
        math.log(shape.stride),
        math.log(max(shape.kernel_size, 1)),
        math.log(shape.expansion),
        math.log(math.gcd(out_width, _LONGEST_ALIGNMENT)),
        math.log(shape.groups),
        math.log1p(shape.squeezed_channels),
        float(work["expand_macs"] > 0),
        float(shape.shortcut),
        float(shape.identity),
        float(shape.swish),
    ]


def _roofline(found: Sequence[Operator]) -> dict[str, float]:
    work = dict.fromkeys(ROOFLINE, 0.0)
    stage = "expand"
    for operator in found:
        if operator.kind == "depthwise":
            stage = "depthwise"
        elif operator.kind == "dense" or (operator.kind == "pointwise" and stage == "depthwise"):
            stage = "project"
        moved = _BYTES * (operator.read + operator.written)
        if operator.macs:
            work[f"{stage}_macs"] += operator.macs
            work[f"{stage}_bytes"] += moved
        else:
            added = _LAUNCHES.get(operator.kind) == "additions"
            work["addition_bytes" if added else "elementwise_bytes"] += moved
        work["parameter_bytes"] += _BYTES * operator.parameters
        work[_LAUNCHES.get(operator.kind, "elementwise_operators")] += 1
    return work
