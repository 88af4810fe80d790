"""Build the PyTorch module of a block: the same module is timed, trained in the supernet and deployed.

MBConv as in MobileNetV2 (arXiv 1801.04381) with the kernel sizes of ProxylessNAS (arXiv 1812.00332):
expand 1x1, depthwise kxk, project 1x1; batch normalisation after each, ReLU6 after the first two.
MobileNetV1 (arXiv 1704.04861) and V3 (arXiv 1905.02244) blocks differ in expansion, activation and
squeeze-and-excitation only.
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
    operation: Operation,
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
    activation = [_ACTIVATIONS[operation.activation](inplace=True)] if act else []
    return [convolution, nn.BatchNorm2d(out_channels, eps=operation.epsilon), *activation]


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation of MobileNetV3: (B, C, H, W) -> (B, C, H, W)."""

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
        """Multiply each channel by a learned factor between 0 and 1."""
        scale_NC11: Tensor = self.scale(x_NCHW)
        return x_NCHW * scale_NC11


class MBConv(nn.Module):
    """Mobile inverted bottleneck: (B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        layer, candidate, operation = block.layer, block.candidate, block.candidate.operation
        middle = block.middle_channels
        expand = _conv(operation, layer.in_channels, middle) if middle != layer.in_channels else []
        depthwise = _conv(operation, middle, middle, candidate.kernel_size, layer.stride, groups=middle)
        squeeze = [SqueezeExcitation(middle)] if operation.squeeze else []
        project = _conv(operation, middle, layer.out_channels, act=not operation.linear)
        self.layers = nn.Sequential(*expand, *depthwise, *squeeze, *project)
        self.shortcut = candidate.shortcut

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Run the block, and add the input if the candidate has a shortcut."""
        y_NCHW: Tensor = self.layers(x_NCHW)
        return x_NCHW + y_NCHW if self.shortcut else y_NCHW


def build_module(subject: BlockOrPart) -> nn.Module:
    """Build the module of a block or a part, in training mode, with torch's default initialisation.

    Weights are drawn from torch's global generator. A part is a `nn.Sequential` of its blocks.
    """
    if isinstance(subject, Part):
        return nn.Sequential(*(build_module(block) for block in subject.blocks))
    layer, candidate, operation = subject.layer, subject.candidate, subject.candidate.operation
    if operation.form == "identity":
        return nn.Identity()
    if operation.form == "bottleneck":
        return MBConv(subject)
    if operation.form == "conv":
        return nn.Sequential(
            *_conv(operation, layer.in_channels, layer.out_channels, candidate.kernel_size, layer.stride)
        )
    hidden = subject.middle_channels
    before: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten(1)]
    if operation.form == "head":
        before = [*_conv(operation, layer.in_channels, hidden), *before]
    elif operation.hidden:
        before += [nn.Linear(layer.in_channels, hidden), _ACTIVATIONS[operation.activation](inplace=True)]
    return nn.Sequential(*before, nn.Linear(hidden, layer.out_channels))


def example_input(subject: BlockOrPart, batch: int = 1, seed: int = 0) -> Tensor:
    """Draw a standard normal input of a block or a part: (batch, in_channels, height, width)."""
    shape = subject.input_shape if isinstance(subject, Part) else subject.layer.input_shape
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *shape, generator=generator)
