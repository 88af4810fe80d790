"""What U(.) of a device says of a block or of several in a row, and what that rests on."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.estimators.lookup import DeviceModel
from jmsnas.profiler.table.latency_table import BlockRow, PartRow
from jmsnas.space import Block, Layer, Part


@dataclass(frozen=True, slots=True)
class BlockPrediction:
    """Seconds of one call of a block, and what they rest on.

    Attributes
    ----------
    latency_s, low_s, high_s
        Seconds and their interval: 95 % of the median where a row answers, else 90 % of blocks like it.
    row
        The table's row of this very block, None where there is none.
    from_row
        Whether that row answers; one in more doubt than a prediction does not.
    nearest
        Of the layer geometries that were fitted the one most like the block's, None where there is none.
    outside
        Whether the block is beyond all that was fitted, so that its seconds are extrapolated.
    """

    block: Block
    latency_s: float
    low_s: float
    high_s: float
    row: BlockRow | None
    from_row: bool
    nearest: Layer | None
    extrapolated: bool

    @property
    def kind(self) -> str:
        """What answers: a `measured`, `imported` or `simulated` row, or U(.): `predicted`, `outside`."""
        if self.row and self.from_row:
            return self.row.kind
        return "extrapolated" if self.extrapolated else "predicted"


@dataclass(frozen=True, slots=True)
class CorrectedSum:
    """Seconds of a whole part, from the sum of its blocks by what whole networks show (sum_correction.py).

    The interval is that of the sum on the line, and the line's own mean error beyond it. `outside` says
    that the networks behind the line were all faster, or all slower.
    """

    latency_s: float
    low_s: float
    high_s: float
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class PartPrediction:
    """Seconds of several blocks in a row.

    Attributes
    ----------
    blocks
        Each by itself.
    sum_s, low_s, high_s
        Their sum, and the sums of their bounds: errors of blocks on one device are not independent, so they
        are added as if all were off the same way, the widest they can be.
    corrected
        The sum corrected by whole networks, where the table has enough.
    row
        The table's row of this very part, measured as one call; None where there is none.
    """

    blocks: tuple[BlockPrediction, ...]
    sum_s: float
    low_s: float
    high_s: float
    corrected: CorrectedSum | None
    row: PartRow | None


def predict_blocks(basis: DeviceModel, blocks: Sequence[Block]) -> tuple[BlockPrediction, ...]:
    """Predict each block by itself, and say what its seconds rest on."""
    estimator = basis.estimator
    latency_s, (low_s, high_s) = estimator.predict_s(blocks), estimator.interval_s(blocks)
    rows = {row.block: row for row in basis.table.rows}
    beyond = extrapolated(basis, blocks)
    return tuple(
        BlockPrediction(
            block,
            float(latency_s[n]),
            float(low_s[n]),
            float(high_s[n]),
            rows.get(block),
            block in estimator.rows,
            nearest_layer(block.layer, basis.layers),
            bool(beyond[n]),
        )
        for n, block in enumerate(blocks)
    )


def extrapolated(basis: DeviceModel, blocks: Sequence[Block]) -> NDArray[np.bool_]:
    """Say which blocks have no row and are beyond all sizes, or of a role, that was fitted, (blocks,)."""
    roles, rows = {layer.role for layer in basis.layers}, basis.estimator.rows
    pairs = zip(blocks, basis.estimator.extrapolated(blocks), strict=True)
    return np.array(
        [(far or block.layer.role not in roles) and block not in rows for block, far in pairs], dtype=bool
    )


def predict_part(basis: DeviceModel, part: Part) -> PartPrediction:
    """Predict blocks that follow one another: each, their sum, and the sum corrected by whole networks."""
    blocks = predict_blocks(basis, part.blocks)
    sum_s, low_s, high_s = (
        math.fsum(getattr(block, name) for block in blocks) for name in ("latency_s", "low_s", "high_s")
    )
    row = next((row for row in basis.table.parts if row.block == part), None)
    corrected = None
    if basis.correction:
        line, wholes_s = basis.correction, [row.median_s for row in basis.table.parts]
        count = len(blocks)
        latency_s = line.apply(sum_s, count)
        corrected = CorrectedSum(
            latency_s,
            line.apply(low_s, count) / (1 + line.error),
            line.apply(high_s, count) * (1 + line.error),
            not min(wholes_s) <= latency_s <= max(wholes_s),
        )
    return PartPrediction(blocks, sum_s, low_s, high_s, corrected, row)


def nearest_layer(layer: Layer, layers: Iterable[Layer]) -> Layer | None:
    """Find the geometry most like `layer`: of its role if there is one, then by the ratios of their sizes."""
    sizes = _sizes(layer)

    def distance(other: Layer) -> tuple[bool, float]:
        ratios = zip(sizes, _sizes(other), strict=True)
        return other.role != layer.role, sum(abs(math.log(one / another)) for one, another in ratios)

    return min(layers, key=distance, default=None)


def _sizes(layer: Layer) -> tuple[int, ...]:
    return (layer.in_channels, layer.out_channels, layer.height, layer.width, layer.stride)
