"""Images split three ways: for the weights, for the architecture parameters, and for the last figure."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Images:
    """`pixels` (count, channels, height, width) float32, about unit variance; `labels` (count,) int64."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Splits:
    """A data set: `train` for the weights, `arch` for the architecture, `test` for the last figure only."""

    name: str
    train: Images
    arch: Images
    test: Images
    shape: tuple[int, int, int]
    classes: int

    @property
    def train_and_arch(self) -> Images:
        """All images but the test's: what the second stage trains on."""
        return Images(
            torch.cat([self.train.pixels, self.arch.pixels]), torch.cat([self.train.labels, self.arch.labels])
        )


def split(
    name: str, images: Images, classes: int, seed: int, test: float = 0.2, arch: float = 0.25
) -> Splits:
    """Split at random: `test` of all images held out, then `arch` of the rest.

    The test images are the same for every seed, so that figures can be compared; `seed` draws the rest.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test_count = math.ceil(test * len(images))
    rest = order[test_count:]
    rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))]
    arch_count = round(arch * len(rest))
    parts = (rest[arch_count:], rest[:arch_count], order[:test_count])
    train, held, last = (Images(images.pixels[chosen], images.labels[chosen]) for chosen in parts)
    channels, height, width = images.pixels.shape[1:]
    return Splits(name, train, held, last, (channels, height, width), classes)
