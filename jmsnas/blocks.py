"""The one builder: the module that is timed on the bench, searched in the supernet and sent to the field.

MBConv as in MobileNetV2 (arXiv 1801.04381) with the kernel sizes of ProxylessNAS (arXiv 1812.00332):
expand 1x1, depthwise kxk, project 1x1; batch normalisation after each, ReLU6 after the first two.
"""

import torch
from torch import Tensor, nn

from jmsnas.space import Block


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1, act: bool = True
) -> list[nn.Module]:
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(out_channels)] + ([nn.ReLU6(inplace=True)] if act else [])


class MBConv(nn.Module):
    """Mobile inverted bottleneck: (B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        expansion: int,
        shortcut: bool,
    ) -> None:
        super().__init__()
        middle = in_channels * expansion
        expand = _conv(in_channels, middle, 1) if expansion > 1 else []
        depthwise = _conv(middle, middle, kernel_size, stride, groups=middle)
        self.layers = nn.Sequential(*expand, *depthwise, *_conv(middle, out_channels, 1, act=False))
        self.shortcut = shortcut

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Run the block; with a shortcut the input is added."""
        y_NCHW: Tensor = self.layers(x_NCHW)
        return x_NCHW + y_NCHW if self.shortcut else y_NCHW


def build(block: Block) -> nn.Module:
    """Make the module of a block, in training mode, with torch's default weights (set the seed before)."""
    layer, candidate = block.layer, block.candidate
    if candidate.op == "identity":
        return nn.Identity()
    if candidate.op == "stem":
        return nn.Sequential(*_conv(layer.in_channels, layer.out_channels, 3, layer.stride))
    if candidate.op == "head":
        convolution = _conv(layer.in_channels, layer.hidden_channels, 1)
        dense = nn.Linear(layer.hidden_channels, layer.out_channels)
        return nn.Sequential(*convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), dense)
    return MBConv(
        layer.in_channels,
        layer.out_channels,
        candidate.kernel_size,
        layer.stride,
        candidate.expansion,
        candidate.shortcut,
    )


def example_input(block: Block, batch: int = 1, seed: int = 0) -> Tensor:
    """Make a well-scaled input of a block: standard normal, (batch, in_channels, height, width)."""
    layer = block.layer
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, layer.in_channels, layer.height, layer.width, generator=generator)
