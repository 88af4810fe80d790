"""Geometry and launched operators of a block, the input of feature extraction.

Made from a block of a search space, or from a row of a published table, whose blocks need not be in any
search space: other middle widths, grouped convolutions, squeeze-and-excitation of any width.
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
        Width of the depthwise convolution, or of the hidden layer of a head.
    kernel_size
        0 where nothing is convolved.
    expansion
        Middle width over input width; 1 where nothing is expanded.
    operators
        In launch order, for all images of one call.
    shortcut, identity
        Whether the input is added to the output; whether the block is an identity.
    groups
        Groups of the 1x1 convolutions.
    squeezed_channels
        Inner width of squeeze-and-excitation, 0 where there is none.
    swish
        Whether the activation is swish or hard swish rather than a clipping (ReLU, ReLU6).
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
        """Format as a block, with the variant in parentheses: `mb_k3_e1.5 16->24 8x8 (se 8, swish)`."""
        skip = "_skip" if self.shortcut else ""
        name = "identity" if self.identity else f"mb_k{self.kernel_size}_e{self.expansion:.4g}{skip}"
        stride = f" /{self.stride}" if self.stride > 1 else ""
        more = {"se": self.squeezed_channels, "groups": self.groups if self.groups > 1 else 0}
        details = [f"{label} {number}" for label, number in more.items() if number]
        details += ["swish"] if self.swish else []
        variant = f" ({', '.join(details)})" if details else ""
        return f"{name} {self.in_channels}->{self.out_channels} {self.height}x{self.width}{stride}{variant}"


def shape_of_block(block: Block) -> BlockShape:
    """Make the shape of a block; the stem and the head are convolutions without a depthwise stage."""
    layer, candidate, own = block.layer, block.candidate, block.candidate.operation
    # Where a bottleneck's middle width is given explicitly, the expansion is the resulting ratio.
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
