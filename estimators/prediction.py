"""Predict the latency of blocks and of parts on a device, with intervals and the rows behind them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import BoolArray
from jmsnas.estimators.lookup import DeviceModel
from jmsnas.profiler.table.latency_table import BlockRow, PartRow
from jmsnas.space import Block, Layer, Part


@dataclass(frozen=True, slots=True)
class BlockPrediction:
    """Latency of one call of a block, measured or predicted.

    Attributes
    ----------
    latency_s, low_s, high_s
        Seconds and their interval: the 95 % interval of a measured median, else the 90 % prediction interval.
    row
        The table's row of the block, None where there is none.
    from_row
        Whether the row is used; one with a wider interval than the prediction is not.
    nearest
        The nearest fitted layer geometry, None where there is none.
    extrapolated
        Whether the block has no row and is outside the training range.
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
        """Kind of the row used (`measured`, `imported`, `simulated`), else `predicted` or `extrapolated`."""
        if self.row and self.from_row:
            return self.row.kind
        return "extrapolated" if self.extrapolated else "predicted"


@dataclass(frozen=True, slots=True)
class CorrectedSum:
    """Latency of a part from the sum of its blocks, by the correction fitted to whole models.

    The interval is that of the sum, corrected, and widened by the mean error of the correction.
    `extrapolated` is whether the latency is outside the range of the measured whole models.
    """

    latency_s: float
    low_s: float
    high_s: float
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class PartPrediction:
    """Latency of a part: of its blocks, their sum, and the sum corrected by whole models.

    Attributes
    ----------
    blocks
        Prediction of each block.
    sum_s, low_s, high_s
        Sum of the blocks' seconds, and of their bounds: errors of blocks of one device are not independent,
        so that intervals are added as if all errors had one sign.
    corrected
        The corrected sum; None where the table has too few whole models.
    row
        The table's row of the part, measured as one call; None where there is none.
    """

    blocks: tuple[BlockPrediction, ...]
    sum_s: float
    low_s: float
    high_s: float
    corrected: CorrectedSum | None
    row: PartRow | None


def predict_blocks(model: DeviceModel, blocks: Sequence[Block]) -> tuple[BlockPrediction, ...]:
    """Predict the latency of each block."""
    estimator = model.estimator
    latency_s, (low_s, high_s) = estimator.predict_s(blocks), estimator.interval_s(blocks)
    rows = {row.block: row for row in model.table.rows}
    outside = extrapolated(model, blocks)
    return tuple(
        BlockPrediction(
            block,
            float(latency_s[n]),
            float(low_s[n]),
            float(high_s[n]),
            rows.get(block),
            block in estimator.rows,
            nearest_layer(block.layer, model.layers),
            bool(outside[n]),
        )
        for n, block in enumerate(blocks)
    )


def extrapolated(model: DeviceModel, blocks: Sequence[Block]) -> BoolArray:
    """Mark the blocks without a row that are outside the training range or of another role, (blocks,)."""
    roles, rows = {layer.role for layer in model.layers}, model.estimator.rows
    pairs = zip(blocks, model.estimator.extrapolated(blocks), strict=True)
    return np.array(
        [(far or block.layer.role not in roles) and block not in rows for block, far in pairs], dtype=bool
    )


def predict_part(model: DeviceModel, part: Part) -> PartPrediction:
    """Predict the latency of a part: each block, their sum, and the corrected sum."""
    blocks = predict_blocks(model, part.blocks)
    sum_s, low_s, high_s = (
        math.fsum(getattr(block, name) for block in blocks) for name in ("latency_s", "low_s", "high_s")
    )
    row = next((row for row in model.table.parts if row.block == part), None)
    corrected = None
    if model.correction:
        correction, wholes_s = model.correction, [row.median_s for row in model.table.parts]
        count = len(blocks)
        latency_s = correction.apply(sum_s, count)
        corrected = CorrectedSum(
            latency_s,
            correction.apply(low_s, count) / (1 + correction.error),
            correction.apply(high_s, count) * (1 + correction.error),
            not min(wholes_s) <= latency_s <= max(wholes_s),
        )
    return PartPrediction(blocks, sum_s, low_s, high_s, corrected, row)


def nearest_layer(layer: Layer, layers: Iterable[Layer]) -> Layer | None:
    """Find the layer nearest to `layer`: of the same role if possible, then by log ratios of sizes."""
    sizes = _sizes(layer)

    def distance(other: Layer) -> tuple[bool, float]:
        ratios = zip(sizes, _sizes(other), strict=True)
        return other.role != layer.role, sum(abs(math.log(one / another)) for one, another in ratios)

    return min(layers, key=distance, default=None)


def _sizes(layer: Layer) -> tuple[int, ...]:
    return (layer.in_channels, layer.out_channels, layer.height, layer.width, layer.stride)
