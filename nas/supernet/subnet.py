"""Extraction of a derived model from a supernet with its weights, and its accuracy on held-out images."""

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

# Images for BatchNorm statistics: more of them changed no ranking of models.
_CALIBRATION_IMAGES = 1024


def extract_subnet(supernet: Supernet, derived: DerivedArchitecture) -> nn.Sequential:
    """Copy the derived model with its weights out of the supernet; unfreeze its BatchNorm statistics."""
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
    """Compute the accuracy of a derived model, with the supernet's weights, on the architecture images.

    The weights were not trained on these. BatchNorm is recalibrated on training images; no weight changes.
    """
    model = extract_subnet(supernet, derived)
    recalibrate(model, splits.train, device, most=_CALIBRATION_IMAGES)
    return accuracy(model, splits.arch, device, ranks=ranks)


def most_accurate(
    supernet: Supernet,
    derived: Sequence[DerivedArchitecture],
    splits: DatasetSplits,
    device: torch.device,
    ranks: Ranks = SINGLE_PROCESS,
) -> int:
    """Return the index of the derived model that is most accurate on held-out images.

    The first of equally accurate ones, which is the likeliest where they are sorted by likelihood.
    """
    if len(derived) == 1:
        return 0
    accuracies = [held_out_accuracy(supernet, each, splits, device, ranks) for each in derived]
    return accuracies.index(max(accuracies))
