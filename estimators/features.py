"""What a predictor of latency is told about a block: named numbers, one row a block.

Three groups of columns. GEOMETRY says which layer it is; ROOFLINE holds amounts of work, which a
non-negative sum turns into seconds (Williams et al., Roofline, CACM 52(4), 2009, summed over stages
because a batch of one overlaps little); RESIDUAL holds logarithms, for what the sum does not explain.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jmsnas.cost import Operator, operators
from jmsnas.space import Block

GEOMETRY = ("in_channels", "out_channels", "height", "width", "stride")
_STAGES = ("expand", "depthwise", "project")
# Additions stand apart from other elementwise work: run times that fuse normalisation and activation
# into the convolution before them (onnxruntime) still launch the addition of a shortcut.
ROOFLINE = (
    *(f"{stage}_macs" for stage in _STAGES),
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
    "shortcut",
    "identity",
)
FEATURES = GEOMETRY + ROOFLINE + RESIDUAL

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


def features(blocks: Sequence[Block]) -> NDArray[np.float64]:
    """Describe blocks by numbers.

    Parameters
    ----------
    blocks
        Any blocks, of any spaces; the stem's convolution and the head's 1x1 count as `expand`, the
        head's dense layer as `project`, so that they share rates with their like.

    Returns
    -------
    (blocks, len(FEATURES)), columns in the order of `FEATURES`: MACs, bytes, counts, natural logarithms.
    """
    if not blocks:
        return np.empty((0, len(FEATURES)))
    return np.array([_row(block) for block in blocks], dtype=np.float64)


def columns(names: Sequence[str]) -> list[int]:
    """Positions of named columns in what `features` returns."""
    return [FEATURES.index(name) for name in names]


def geometry_groups(X: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number the layer geometry (in, out, height, width, stride) of each row, (rows,)."""
    _, groups = np.unique(X[:, columns(GEOMETRY)], axis=0, return_inverse=True)
    return np.asarray(groups, dtype=np.int64).reshape(-1)


def _row(block: Block) -> list[float]:
    layer, candidate = block.layer, block.candidate
    found = operators(block)
    work = _roofline(found)
    middle = block.middle_channels
    return [
        *(layer.in_channels, layer.out_channels, layer.height, layer.width, layer.stride),
        *(work[name] for name in ROOFLINE),
        *(math.log(size) for size in (layer.in_channels, layer.out_channels, middle)),
        math.log(layer.height * layer.width),
        math.log(layer.stride),
        math.log(max(candidate.kernel_size, 1)),
        math.log(candidate.expansion or (middle / layer.in_channels if candidate.op[:2] == "mb" else 1)),
        float(candidate.shortcut),
        float(candidate.op == "identity"),
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
