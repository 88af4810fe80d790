"""Feature matrix of blocks for latency regression: geometry, amounts of work, logarithms of sizes.

Three groups of columns. GEOMETRY identifies the layer; ROOFLINE holds amounts of work, which a
non-negative sum turns into seconds (Williams et al., Roofline, CACM 52(4), 2009, summed over stages
because a batch of one overlaps little); RESIDUAL holds the logarithms that the residual models use.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.cost import Operator
from jmsnas.estimators.regression.block_shape import BlockShape, shape_of_block
from jmsnas.space import Block

GEOMETRY = ("in_channels", "out_channels", "height", "width", "stride")
CHANNEL_PAIR = ("in_channels", "out_channels")
_STAGES = ("expand", "depthwise", "project")
# Additions are separate from other elementwise work: runtimes that fuse normalisation and activation
# into the convolution before them (onnxruntime) still launch the addition of a shortcut, and also the
# multiplication of squeeze-and-excitation, which is counted as an addition.
ROOFLINE = (
    *(f"{stage}_macs" for stage in _STAGES),
    # Where a kernel's padding is wider than a row of its output (7x7 on 2x2) oneDNN's vectorised depthwise
    # convolution falls back to a slow one: `l_pad > ur_w` in jit_uni_dw_conv_kernel_utils.hpp.
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
# Geometry only: MACs and bytes are products of it, so their logarithms are sums of these. With them the
# fitted length scales of the Gaussian process generalised worse to layers that were not measured.
RESIDUAL = (
    "log_in_channels",
    "log_out_channels",
    "log_middle_channels",
    "log_pixels",
    "log_stride",
    "log_kernel_size",
    "log_expansion",
    # Rows of 16 or 32 numbers run differently from rows of 14 or 28: whole vectors, but also lines that
    # map to the same cache set.
    "log_aligned_width",
    "log_groups",
    "log_squeezed_channels",
    "expands",
    "shortcut",
    "identity",
    "swish",
)
FEATURES = GEOMETRY + ROOFLINE + RESIDUAL

# For small blocks the launch cost differs more between these classes than the cost of their arithmetic.
_LAUNCHES = {
    "conv": "convolutions",
    "pointwise": "convolutions",
    "dense": "convolutions",
    "depthwise": "depthwise_convolutions",
    "add": "additions",
    "multiply": "additions",
}

# Float32; another number format scales all rows of a key alike, which the fitted rates absorb.
_BYTES = 4
# In numbers; cache lines and the widest vectors hold fewer.
_LONGEST_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows to fit a latency model to.

    Attributes
    ----------
    X
        Features, (rows, features).
    y
        Measured seconds, (rows,).
    noise
        Relative standard deviation of each latency, (rows,); None: all are exact.
    """

    X: FloatArray
    y: FloatArray
    noise: FloatArray | None = None

    def select(self, indices: IntArray) -> "TrainingRows":
        """Return the rows of given indices."""
        return TrainingRows(
            self.X[indices], self.y[indices], None if self.noise is None else self.noise[indices]
        )


def features(blocks: Sequence[Block | BlockShape]) -> FloatArray:
    """Compute the feature matrix of blocks of any search space or published table.

    The stem's convolution and the head's 1x1 count as `expand`, dense layers as `project`, so that they share
    rates with similar operators.

    Returns
    -------
    (blocks, len(FEATURES)), columns in the order of `FEATURES`: MACs, bytes, counts, natural logarithms.
    """
    rows = [_row(each if isinstance(each, BlockShape) else shape_of_block(each)) for each in blocks]
    return np.array(rows, dtype=np.float64).reshape(-1, len(FEATURES))


def columns(names: Sequence[str]) -> list[int]:
    """Return the indices of named columns in the matrix that `features` returns."""
    return [FEATURES.index(name) for name in names]


def group_ids(X: FloatArray, names: Sequence[str] = GEOMETRY) -> IntArray:
    """Number the distinct layer geometries (or values of other named columns) of the rows, (rows,)."""
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
