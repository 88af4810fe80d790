"""What a block costs in arithmetic: operators, MACs, parameters, numbers moved. Pure functions of shapes.

Only multiply-accumulates of convolutions and dense layers count as MACs; normalisation, activation,
pooling and addition count as numbers moved. A batch of one; a number is whatever dtype it is run in.
"""

from dataclasses import dataclass

from jmsnas.space import Block


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator as an eager framework launches it.

    `kind` is conv, pointwise, depthwise, dense, norm, activation, add or pool; `macs` multiply-accumulates;
    `parameters` learned numbers; `read` and `written` numbers of activations that cross memory.
    """

    kind: str
    macs: int
    parameters: int
    read: int
    written: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Totals of a block: MACs, parameters, and numbers moved (activations and parameters)."""

    macs: int
    parameters: int
    moved: int

    def moved_bytes(self, bytes_per_number: int = 4) -> int:
        """Bytes moved where a number takes `bytes_per_number`."""
        return self.moved * bytes_per_number


def _normalised(kind: str, macs: int, weights: int, read: int, channels: int, pixels: int) -> list[Operator]:
    """Count a convolution without bias and the batch normalisation behind it."""
    out = channels * pixels
    return [Operator(kind, macs, weights, read, out), Operator("norm", 0, 2 * channels, out, out)]


def _activated(operators: list[Operator]) -> list[Operator]:
    return [*operators, Operator("activation", 0, 0, operators[-1].written, operators[-1].written)]


def operators(block: Block) -> tuple[Operator, ...]:
    """Operators of a block in order; Identity has none. Geometry as `blocks.build` makes it."""
    layer, candidate = block.layer, block.candidate
    pixels_in, read = layer.height * layer.width, layer.in_channels * layer.height * layer.width
    if candidate.op == "identity":
        return ()
    if candidate.op == "stem":
        pixels, weights = (
            layer.output_elements // layer.out_channels,
            9 * layer.in_channels * layer.out_channels,
        )
        return tuple(
            _activated(_normalised("conv", weights * pixels, weights, read, layer.out_channels, pixels))
        )
    if candidate.op == "head":
        hidden, weights = layer.hidden_channels, layer.in_channels * layer.hidden_channels
        found = _activated(_normalised("pointwise", weights * pixels_in, weights, read, hidden, pixels_in))
        dense = hidden * layer.out_channels
        return (
            *found,
            Operator("pool", 0, 0, hidden * pixels_in, hidden),
            Operator("dense", dense, dense + layer.out_channels, hidden, layer.out_channels),
        )
    pixels_out = layer.output_elements // layer.out_channels
    middle = layer.in_channels * candidate.expansion
    found = []
    if candidate.expansion > 1:
        weights = layer.in_channels * middle
        found += _activated(_normalised("pointwise", weights * pixels_in, weights, read, middle, pixels_in))
    weights = middle * candidate.kernel_size**2
    found += _activated(
        _normalised("depthwise", weights * pixels_out, weights, middle * pixels_in, middle, pixels_out)
    )
    weights = middle * layer.out_channels
    found += _normalised(
        "pointwise", weights * pixels_out, weights, middle * pixels_out, layer.out_channels, pixels_out
    )
    if candidate.shortcut:
        out = layer.output_elements
        found.append(Operator("add", 0, 0, 2 * out, out))
    return tuple(found)


def cost(block: Block) -> Cost:
    """MACs, parameters and numbers moved of a block."""
    found = operators(block)
    parameters = sum(op.parameters for op in found)
    return Cost(
        sum(op.macs for op in found), parameters, sum(op.read + op.written for op in found) + parameters
    )
