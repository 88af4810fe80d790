"""A block as a predictor sees it, whoever timed it: geometry, and operators as they are launched.

A block of ours gives one, and so does a row of a published table, whose blocks need not be ours: other
widths in the middle, grouped convolutions, squeeze-and-excitation of any width.
"""

from dataclasses import dataclass

from jmsnas.cost import Operator, operators
from jmsnas.operations import squeezed_channels
from jmsnas.space import Block


@dataclass(frozen=True, slots=True)
class BlockShape:
    """Geometry and operators of one block; height and width are the input's.

    Attributes
    ----------
    in_channels, out_channels, height, width, stride
        The layer's geometry.
    middle_channels
        Width of the depthwise convolution, or of what stands in the middle of a head.
    kernel_size
        0 where nothing is convolved.
    expansion
        Width in the middle over that of the input; 1 where nothing is expanded.
    operators
        In order, of all images of one call.
    shortcut, identity
        Whether the input is added to the output; whether the block does nothing at all.
    groups
        Of the 1x1 convolutions.
    squeezed_channels
        Width inside squeeze-and-excitation, 0 where there is none.
    swish
        Whether the activation is more than a clipping: swish, hard swish.
    """

    in_channels: int
    out_channels: int
    height: int
    width: int
    stride: int
    middle_channels: int
    kernel_size: int
    expansion: float
    operators: tuple[Operator, ...]
    shortcut: bool = False
    identity: bool = False
    groups: int = 1
    squeezed_channels: int = 0
    swish: bool = False

    def __str__(self) -> str:
        """Print as a block of ours is, with more behind it: `mb_k3_e1.5 16->24 8x8 (se 8, swish)`."""
        skip = "_skip" if self.shortcut else ""
        name = "identity" if self.identity else f"mb_k{self.kernel_size}_e{self.expansion:.4g}{skip}"
        stride = f" /{self.stride}" if self.stride > 1 else ""
        more = {"se": self.squeezed_channels, "groups": self.groups if self.groups > 1 else 0}
        words = [f"{word} {number}" for word, number in more.items() if number]
        words += ["swish"] if self.swish else []
        variant = f" ({', '.join(words)})" if words else ""
        return f"{name} {self.in_channels}->{self.out_channels} {self.height}x{self.width}{stride}{variant}"


def shape_of_block(block: Block) -> BlockShape:
    """Describe a block of ours; the stem and the head are convolutions without a depthwise stage."""
    layer, candidate, own = block.layer, block.candidate, block.candidate.operation
    # Where a bottleneck's width is given outright, the expansion is whatever ratio that makes.
    expansion = block.middle_channels / layer.in_channels if own.form == "bottleneck" else 1.0
    return BlockShape(
        in_channels=layer.in_channels,
        out_channels=layer.out_channels,
        height=layer.height,
        width=layer.width,
        stride=layer.stride,
        middle_channels=block.middle_channels,
        kernel_size=candidate.kernel_size,
        expansion=expansion,
        operators=operators(block),
        shortcut=candidate.shortcut,
        identity=candidate.op == "identity",
        squeezed_channels=squeezed_channels(block.middle_channels) if own.squeeze else 0,
        swish=own.activation == "hard_swish",
    )
