"""How a supernet begins: every candidate of a layer as nearly the same function.

With torch's default weights each candidate is another random function. Where half of them have no shortcut,
what a layer gets then depends on the whole path before it, and in a few hundred steps a supernet learns next
to nothing. So an MBConv begins as the identity on normalised features, plus a share of its random weights:
relu(x) and relu(-x) in the expanded channels, the centre of the kernel in the depthwise stage, and their
difference in the projection. Where channels are added, all candidates add the same random mixtures.

The idea is Net2Net's (arXiv 1511.05641) and DiracNets' (arXiv 1706.00388). docs/decisions/0005 has figures.
"""

import torch
from torch import Tensor, nn

from jmsnas.blocks import MBConv

# Share of the random weights that stays, and what the last normalisation of a block with a shortcut
# multiplies by: enough for candidates to grow apart, little enough to begin alike.
_RANDOM_SHARE, _RESIDUAL_SCALE = 0.3, 0.2
# relu of a standard normal has mean 0.399 and deviation 0.584: normalised, it is shifted back above 0.
_MEAN_OVER_DEVIATION = 0.683


def initialise_as_identity(block: nn.Module, generator: torch.Generator) -> None:
    """Set an MBConv's weights, in place, so that it begins as the identity on normalised features.

    Blocks that cannot (an expansion of 1 has no room for both signs) and other modules stay as they are.
    `generator` draws the channels that are added; give each candidate of a layer one in the same state.
    """
    if not isinstance(block, MBConv):
        return
    convolutions = [part for part in block.layers if isinstance(part, nn.Conv2d)]
    norms = [part for part in block.layers if isinstance(part, nn.BatchNorm2d)]
    if len(convolutions) < 3:
        return
    expand, depthwise, project = convolutions
    channels = expand.in_channels
    mixed_OC = _same_channels(project.out_channels, channels, generator)
    with torch.no_grad():
        for convolution in convolutions:
            convolution.weight.mul_(_RANDOM_SHARE)
        identity_CC11 = torch.eye(channels)[:, :, None, None]
        expand.weight[:channels] += identity_CC11
        expand.weight[channels : 2 * channels] -= identity_CC11
        centre = depthwise.kernel_size[0] // 2
        depthwise.weight[:, 0, centre, centre] += 1
        norms[1].bias.fill_(_MEAN_OVER_DEVIATION)
        project.weight[:, :channels, 0, 0] += mixed_OC
        project.weight[:, channels : 2 * channels, 0, 0] -= mixed_OC
        if block.shortcut:
            norms[2].weight.fill_(_RESIDUAL_SCALE)


def _same_channels(outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """Give each output the input of its number, further outputs a random mixture; (outputs, inputs)."""
    mixed_OC: Tensor = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
    kept = min(outputs, inputs)
    mixed_OC[:kept] = torch.eye(inputs)[:kept]
    return mixed_OC
