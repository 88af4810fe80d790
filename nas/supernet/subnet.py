"""Networks taken out of a supernet with its weights, and how accurate they are as they are."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from jmsnas.architecture import Architecture
from jmsnas.datasets.splits import DatasetSplits
from jmsnas.nas.derivation.derive import DerivedArchitecture
from jmsnas.nas.supernet.distributed import SINGLE_PROCESS, Ranks
from jmsnas.nas.supernet.supernet import Supernet, set_batchnorm_momentum
from jmsnas.nas.supernet.training import accuracy, recalibrate

# Enough images for BatchNorm's means: more of them changed no ranking, and each costs a forward pass.
_CALIBRATION_IMAGES = 1024


def extract_subnet(supernet: Supernet, derived: DerivedArchitecture) -> nn.Sequential:
    """Copy the derived network out of the supernet, with its weights; BatchNorm's statistics move again."""
    choices = supernet.space.choices
    chosen = Architecture(tuple(choices[n][i] for n, i in enumerate(derived.indices)))
    model = copy.deepcopy(supernet.derived(chosen))
    set_batchnorm_momentum(model, 0.1)
    return model


def held_out_accuracy(
    supernet: Supernet,
    derived: DerivedArchitecture,
    splits: DatasetSplits,
    device: torch.device,
    ranks: Ranks = SINGLE_PROCESS,
) -> float:
    """Share of the architecture's images that the derived network gets right with the supernet's weights.

    The weights never saw these images; BatchNorm is calibrated on training images. No weight moves.
    """
    model = extract_subnet(supernet, derived)
    recalibrate(model, splits.train, device, most=_CALIBRATION_IMAGES)
    return accuracy(model, splits.arch, device, ranks=ranks)


def most_accurate(
    supernet: Supernet,
    networks: Sequence[DerivedArchitecture],
    splits: DatasetSplits,
    device: torch.device,
    ranks: Ranks = SINGLE_PROCESS,
) -> int:
    """Find which of the networks is most accurate on held-out images with the supernet's weights.

    Of equally accurate ones the first, which is the likeliest where they come likeliest first.
    """
    if len(networks) == 1:
        return 0
    right = [held_out_accuracy(supernet, derived, splits, device, ranks) for derived in networks]
    return right.index(max(right))
