"""Initialisation of a supernet: every candidate of a layer starts as nearly the same function.

With torch's default weights each candidate is a different random function. Where half of them have no
shortcut, the input of a layer then depends on the whole path before it, and the supernet learns very little
in a few hundred steps. So an MBConv starts as the identity on normalised features plus a share of its random
weights: relu(x) and relu(-x) in the expanded channels, the centre of the kernel in the depthwise stage, and
their difference in the projection. All candidates add channels by the same random mixtures.

After Net2Net (arXiv 1511.05641) and DiracNets (arXiv 1706.00388); figures in docs/decisions/0005.
"""

import torch
from torch import Tensor, nn

from jmsnas.blocks import MBConv

# Share of the random weights that is kept, and scale of the last normalisation of a block with a shortcut:
# enough for candidates to diverge in training, little enough to start nearly equal.
_RANDOM_SHARE, _RESIDUAL_SCALE = 0.3, 0.2
# Mean 0.399 over standard deviation 0.584 of relu(standard normal): shifts the normalised values above 0.
_MEAN_OVER_DEVIATION = 0.683


def initialise_as_identity(block: nn.Module, generator: torch.Generator) -> None:
    """Set the weights of an MBConv, in place, so that it starts as the identity on normalised features.

    Other modules, and MBConvs with expansion 1 (no channels for both signs), are left unchanged. `generator`
    draws the mixtures of added channels; use one in the same state for all candidates of a layer.
    """
    if not isinstance(block, MBConv):
        return
    convolutions = [part for part in block.layers if isinstance(part, nn.Conv2d)]
    norms = [part for part in block.layers if isinstance(part, nn.BatchNorm2d)]
    if len(convolutions) < 3:
        return
    expand, depthwise, project = convolutions
    channels = expand.in_channels
    mixed_OC = _channel_mixture(project.out_channels, channels, generator)
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


def _channel_mixture(outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """Map each output to the input of its index, further outputs to random mixtures; (outputs, inputs)."""
    mixed_OC: Tensor = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
    kept = min(outputs, inputs)
    mixed_OC[:kept] = torch.eye(inputs)[:kept]
    return mixed_OC
