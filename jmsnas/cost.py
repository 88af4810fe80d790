"""Count operators, MACs and parameters of a block, and the memory traffic of its operators, from its shapes.

Only multiply-accumulates of convolutions and dense layers count as MACs; normalisation, activation,
pooling, addition and channel scaling count as memory traffic. Batch size is 1; traffic is counted in
elements, of whatever dtype the block runs in.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from jmsnas.operations import squeezed_channels
from jmsnas.space import Block, BlockOrPart, Part


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator (kernel launch) of an eager framework.

    `kind` is conv, pointwise, depthwise, dense, norm, activation, add, multiply or pool; `macs` counts
    multiply-accumulates, `parameters` weights, `read` and `written` activation elements.
    """

    kind: str
    macs: int
    parameters: int
    read: int
    written: int


@dataclass(frozen=True, slots=True)
class Cost:
    """MACs and parameters of a block."""

    macs: int
    parameters: int


def _normalised(kind: str, macs: int, weights: int, read: int, channels: int, pixels: int) -> list[Operator]:
    """Count a convolution without bias and the batch normalisation after it."""
    out = channels * pixels
    return [Operator(kind, macs, weights, read, out), Operator("norm", 0, 2 * channels, out, out)]


def _activated(operators: list[Operator]) -> list[Operator]:
    return [*operators, Operator("activation", 0, 0, operators[-1].written, operators[-1].written)]


def _dense(inputs: int, outputs: int) -> Operator:
    return Operator("dense", inputs * outputs, (inputs + 1) * outputs, inputs, outputs)


def _pointwise(in_channels: int, out_channels: int, pixels: int) -> list[Operator]:
    weights = in_channels * out_channels
    return _normalised("pointwise", weights * pixels, weights, in_channels * pixels, out_channels, pixels)


def _squeeze(channels: int, pixels: int) -> list[Operator]:
    """Count squeeze-and-excitation: global pooling, two dense layers and channel scaling."""
    squeezed, out = squeezed_channels(channels), channels * pixels
    return [
        Operator("pool", 0, 0, out, channels),
        *_activated([_dense(channels, squeezed)]),
        *_activated([_dense(squeezed, channels)]),
        Operator("multiply", 0, 0, out + channels, out),
    ]


def _bottleneck(block: Block) -> list[Operator]:
    layer, candidate, operation = block.layer, block.candidate, block.candidate.operation
    pixels_in, pixels_out = layer.height * layer.width, layer.output_elements // layer.out_channels
    middle = block.middle_channels
    found: list[Operator] = []
    if middle != layer.in_channels:
        found += _activated(_pointwise(layer.in_channels, middle, pixels_in))
    weights = middle * candidate.kernel_size**2
    found += _activated(
        _normalised("depthwise", weights * pixels_out, weights, middle * pixels_in, middle, pixels_out)
    )
    found += _squeeze(middle, pixels_out) if operation.squeeze else []
    project = _pointwise(middle, layer.out_channels, pixels_out)
    found += project if operation.linear else _activated(project)
    out = layer.output_elements
    return [*found, Operator("add", 0, 0, 2 * out, out)] if candidate.shortcut else found


def _conv(block: Block) -> list[Operator]:
    layer, kernel_size = block.layer, block.candidate.kernel_size
    kind = "conv" if kernel_size > 1 else "pointwise"
    pixels = layer.output_elements // layer.out_channels
    weights, read = kernel_size**2 * layer.in_channels * layer.out_channels, math.prod(layer.input_shape)
    return _activated(_normalised(kind, weights * pixels, weights, read, layer.out_channels, pixels))


def _logits(block: Block) -> list[Operator]:
    layer, operation = block.layer, block.candidate.operation
    pixels, found = layer.height * layer.width, list[Operator]()
    pooled = block.middle_channels if operation.form == "head" else layer.in_channels
    if operation.form == "head":
        found += _activated(_pointwise(layer.in_channels, pooled, pixels))
    found.append(Operator("pool", 0, 0, pooled * pixels, pooled))
    if operation.form == "classifier" and operation.hidden:
        found += _activated([_dense(pooled, block.middle_channels)])
    return [*found, _dense(block.middle_channels, layer.out_channels)]


_FORMS: dict[str, Callable[[Block], list[Operator]]] = {
    "conv": _conv,
    "bottleneck": _bottleneck,
    "head": _logits,
    "classifier": _logits,
    "identity": lambda _: [],
}


def operators(subject: BlockOrPart) -> tuple[Operator, ...]:
    """List the operators of a block or a part in execution order, as `blocks.build_module` builds them.

    Identity has none.
    """
    blocks = subject.blocks if isinstance(subject, Part) else (subject,)
    return tuple(op for block in blocks for op in _FORMS[block.candidate.operation.form](block))


def cost(subject: BlockOrPart) -> Cost:
    """Count MACs and parameters of a block or a part."""
    found = operators(subject)
    return Cost(sum(op.macs for op in found), sum(op.parameters for op in found))
