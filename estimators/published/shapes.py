"""Convert rows of published latency tables to block shapes, with their launched operators.

A row whose block our search spaces have gets the same features as that block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jmsnas.cost import Operator
from jmsnas.estimators.regression.block_shape import BlockShape
from jmsnas.operations import squeezed_channels

# Launches of an activation in an eager framework: numbers read per number written, for each launch.
_READS = {"swish": (1, 2)}
_ONCE = (1,)
# Upper limits of sizes and widths, and of groups, each of which is counted as a launch.
_MAX_SIZE, _MAX_WIDTH, _MAX_GROUPS = 1 << 16, 1 << 22, 64
_SMOOTH = ("swish", "h_swish", "hard_swish")


def published_shape(record: Mapping[str, Any], always_expands: bool = False) -> BlockShape:
    """Make the shape of an `mbconv` or `identity` row; raises TypeError or ValueError for an invalid cell.

    `always_expands`: whether there is an expansion even where the middle width is the input's.
    """
    wide, out, height, width = (
        int(record[name] or 0) for name in ("in_channels", "out_channels", "height", "width")
    )
    stride = int(record["stride"] or 1)
    sizes = (wide, out, height, width, stride)
    if min(sizes) < 1 or max(sizes) > _MAX_SIZE:
        raise ValueError(
            f"got {wide}->{out} channels, {height}x{width}, stride {stride}: expected 1 to {_MAX_SIZE}"
        )
    if record["op"] == "identity":
        return BlockShape(wide, out, height, width, stride, wide, 0, 1.0, (), identity=True)
    kernel_size, groups = int(record["kernel_size"] or 0), int(record.get("pw_groups") or 1)
    middle = int(record.get("mid_channels") or round(wide * float(record["expansion"] or 1)))
    squeezed = int(record.get("se_channels") or (squeezed_channels(middle) if record.get("se") else 0))
    too_small = min(kernel_size, middle, groups) < 1 or squeezed < 0
    if too_small or max(kernel_size, middle, squeezed) > _MAX_WIDTH or groups > _MAX_GROUPS:
        raise ValueError(
            f"got kernel size {kernel_size}, {middle} channels in the middle, {groups} groups, {squeezed} "
            f"squeezed channels: expected 1 (squeezed: 0) to {_MAX_WIDTH}, and at most {_MAX_GROUPS} groups"
        )
    activation = str(record.get("activation") or "relu")
    shape = BlockShape(
        in_channels=wide,
        out_channels=out,
        height=height,
        width=width,
        stride=stride,
        middle_channels=middle,
        kernel_size=kernel_size,
        expansion=middle / wide,
        operators=(),
        shortcut=bool(record["shortcut"]),
        groups=groups,
        squeezed_channels=squeezed,
        swish=activation in _SMOOTH,
    )
    expands = always_expands or middle != wide
    return replace(shape, operators=_operators(shape, _READS.get(activation, _ONCE), expands))


def _operators(shape: BlockShape, reads: Sequence[int], expands: bool) -> tuple[Operator, ...]:
    """List the operators of one image: expand, depthwise, squeeze-and-excitation, project, addition."""
    before = shape.height * shape.width
    after = -(-shape.height // shape.stride) * -(-shape.width // shape.stride)
    middle, out, squeezed = shape.middle_channels, shape.out_channels, shape.squeezed_channels
    found: list[Operator] = []
    if expands:
        found += _pointwise(shape.in_channels, middle, before, shape.groups)
        found += _elementwise("activation", middle * before, reads)
    weights = middle * shape.kernel_size**2
    found.append(Operator("depthwise", weights * after, weights, middle * before, middle * after))
    found.append(_norm(middle, after))
    found += _elementwise("activation", middle * after, reads)
    if squeezed:
        dense = middle * squeezed
        found.append(Operator("pool", 0, 0, middle * after, middle))
        found.append(Operator("dense", dense, dense + squeezed, middle, squeezed))
        found += _elementwise("activation", squeezed)
        found.append(Operator("dense", dense, dense + middle, squeezed, middle))
        found += _elementwise("activation", middle)
        found.append(Operator("multiply", 0, 0, middle * after + middle, middle * after))
    found += _pointwise(middle, out, after, shape.groups)
    found += _elementwise("add", out * after, (2,)) if shape.shortcut else []
    return tuple(found)


def _pointwise(channels: int, out: int, pixels: int, groups: int) -> list[Operator]:
    """List a 1x1 convolution, launched once per group in the tables' frameworks, and its normalisation."""
    weights, read, written = channels * out // groups**2, channels * pixels // groups, out * pixels // groups
    return [*[Operator("pointwise", weights * pixels, weights, read, written)] * groups, _norm(out, pixels)]


def _norm(channels: int, pixels: int) -> Operator:
    return Operator("norm", 0, 2 * channels, channels * pixels, channels * pixels)


def _elementwise(kind: str, numbers: int, reads: Sequence[int] = _ONCE) -> list[Operator]:
    return [Operator(kind, 0, 0, each * numbers, numbers) for each in reads]
