"""The one builder: the module that is timed on the bench, searched in the supernet and sent to the field.

MBConv as in MobileNetV2 (arXiv 1801.04381) with the kernel sizes of ProxylessNAS (arXiv 1812.00332):
expand 1x1, depthwise kxk, project 1x1; batch normalisation after each, ReLU6 after the first two.
The blocks of MobileNetV1 (arXiv 1704.04861) and V3 (arXiv 1905.02244) are the same with other parts.
"""

import torch
from torch import Tensor, nn

from jmsnas.operations import Operation, squeezed_channels
from jmsnas.space import Block, BlockOrPart, Part

_ACTIVATIONS: dict[str, type[nn.ReLU6 | nn.ReLU | nn.Hardswish]] = {
    "relu6": nn.ReLU6,
    "relu": nn.ReLU,
    "hard_swish": nn.Hardswish,
}


def _conv(
    own: Operation,
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
    act: bool = True,
) -> list[nn.Module]:
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
    )
    activation = [_ACTIVATIONS[own.activation](inplace=True)] if act else []
    return [convolution, nn.BatchNorm2d(out_channels, eps=own.epsilon), *activation]


class SqueezeExcitation(nn.Module):
    """Scale each channel by what its mean over the map says: (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = squeezed_channels(channels)
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(inplace=True),
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Multiply the input by a number from 0 to 1 a channel."""
        scale_NC11: Tensor = self.scale(x_NCHW)
        return x_NCHW * scale_NC11


class MBConv(nn.Module):
    """Mobile bottleneck: (B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        layer, candidate, own = block.layer, block.candidate, block.candidate.operation
        middle = block.middle_channels
        expand = _conv(own, layer.in_channels, middle) if middle != layer.in_channels else []
        depthwise = _conv(own, middle, middle, candidate.kernel_size, layer.stride, groups=middle)
        squeeze = [SqueezeExcitation(middle)] if own.squeeze else []
        project = _conv(own, middle, layer.out_channels, act=not own.linear)
        self.layers = nn.Sequential(*expand, *depthwise, *squeeze, *project)
        self.shortcut = candidate.shortcut

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Run the block; with a shortcut the input is added."""
        y_NCHW: Tensor = self.layers(x_NCHW)
        return x_NCHW + y_NCHW if self.shortcut else y_NCHW


def build_module(subject: BlockOrPart) -> nn.Module:
    """Make the module of a block or a part, in training mode, with torch's default weights.

    Set the seed before. A part is a `nn.Sequential` of its blocks.
    """
    if isinstance(subject, Part):
        return nn.Sequential(*(build_module(block) for block in subject.blocks))
    layer, candidate, own = subject.layer, subject.candidate, subject.candidate.operation
    if own.form == "identity":
        return nn.Identity()
    if own.form == "bottleneck":
        return MBConv(subject)
    if own.form == "conv":
        return nn.Sequential(
            *_conv(own, layer.in_channels, layer.out_channels, candidate.kernel_size, layer.stride)
        )
    hidden = subject.middle_channels
    before: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten(1)]
    if own.form == "head":
        before = [*_conv(own, layer.in_channels, hidden), *before]
    elif own.hidden:
        before += [nn.Linear(layer.in_channels, hidden), _ACTIVATIONS[own.activation](inplace=True)]
    return nn.Sequential(*before, nn.Linear(hidden, layer.out_channels))


def example_input(subject: BlockOrPart, batch: int = 1, seed: int = 0) -> Tensor:
    """Make a well-scaled input of a block or a part: standard normal, (batch, in_channels, height, width)."""
    shape = subject.input_shape if isinstance(subject, Part) else subject.layer.input_shape
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *shape, generator=generator)
