"""Images split three ways: for the weights, for the architecture parameters, and for the last figure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from jmsnas.datasets.seeding import seeded_generator

BatchRows = Sequence[Tensor]


class ImageSet(Protocol):
    """Images with labels, in memory or as files: all that training and evaluation ask of them."""

    @property
    def labels(self) -> Tensor:
        """(count,) int64."""

    def __len__(self) -> int:
        """How many images there are."""

    def subset(self, rows: Tensor) -> Self:
        """Give the images of these rows."""

    def plain(self, rows: BatchRows) -> Iterator[Tensor]:
        """Give each batch of rows as it is, (count, channels, height, width) float32, about unit variance."""

    def augmented(self, rows: BatchRows, seed: int, first: int = 0) -> Iterator[Tensor]:
        """Give each batch of rows changed at random, by a seed for the epoch; `first` counts the first batch.

        What is drawn for a batch depends on nothing but the seed, its number and its rows.
        """


@dataclass(frozen=True, slots=True)
class InMemoryImages:
    """Images held in memory.

    Attributes
    ----------
    pixels
        (count, channels, height, width), float32 as a network takes them, or uint8.
    labels
        (count,) int64.
    shift, flip
        Augmentation: moved by up to so many pixels each way, zeros moving in; mirrored or not.
    mean, deviation
        Of the channels of uint8 pixels, from 0 to 1.
    """

    pixels: Tensor
    labels: Tensor
    shift: int = 1
    flip: bool = False
    mean: tuple[float, ...] = (0.5,)
    deviation: tuple[float, ...] = (0.5,)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.labels)

    def subset(self, rows: Tensor) -> Self:
        """Give the images of these rows."""
        return replace(self, pixels=self.pixels[rows], labels=self.labels[rows])

    def plain(self, rows: BatchRows) -> Iterator[Tensor]:
        """See `ImageSet.plain`."""
        return (self._floats(self.pixels[chosen]) for chosen in rows)

    def augmented(self, rows: BatchRows, seed: int, first: int = 0) -> Iterator[Tensor]:
        """See `ImageSet.augmented`."""
        for number, x_NCHW in enumerate(self.plain(rows), first):
            draw = seeded_generator(seed, "augmentation", number)
            x_NCHW = random_shift(x_NCHW, draw, self.shift) if self.shift else x_NCHW
            yield random_flip(x_NCHW, draw) if self.flip else x_NCHW

    def _floats(self, pixels: Tensor) -> Tensor:
        if pixels.dtype != torch.uint8:
            return pixels
        mean, deviation = (torch.tensor(by)[:, None, None] for by in (self.mean, self.deviation))
        return (pixels / 255 - mean) / deviation


def random_shift(x_NCHW: Tensor, draw: torch.Generator, most: int = 1) -> Tensor:
    """Shift each image by -most .. most pixels up or down and left or right, zeros moving in."""
    count, _, height, width = x_NCHW.shape
    padded = F.pad(x_NCHW, (most,) * 4)
    by_N2 = torch.randint(0, 2 * most + 1, (count, 2), generator=draw)
    rows = by_N2[:, :1] + torch.arange(height)
    columns = by_N2[:, 1:] + torch.arange(width)
    index = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_flip(x_NCHW: Tensor, draw: torch.Generator) -> Tensor:
    """Mirror each image, left to right, with a chance of a half."""
    mirror_N = torch.rand(len(x_NCHW), generator=draw) < 0.5
    return torch.where(mirror_N[:, None, None, None], x_NCHW.flip(3), x_NCHW)


@dataclass(frozen=True, slots=True)
class DatasetSplits:
    """A data set: `train` for the weights, `arch` for the architecture, `test` for the last figure only.

    `train_and_arch`: all images but the test's, which the second stage trains on.
    """

    name: str
    train: ImageSet
    arch: ImageSet
    test: ImageSet
    train_and_arch: ImageSet
    shape: tuple[int, int, int]
    classes: int


def split_images(
    name: str, images: InMemoryImages, classes: int, seed: int, test: float = 0.2, arch: float = 0.25
) -> DatasetSplits:
    """Split at random: `test` of all images held out, then `arch` of the rest.

    The test images are the same for every seed, so that figures can be compared; `seed` draws the rest.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test_count = math.ceil(test * len(images))
    rest = order[test_count:]
    rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))]
    arch_count = round(arch * len(rest))
    channels, height, width = images.pixels.shape[1:]
    return DatasetSplits(
        name,
        images.subset(rest[arch_count:]),
        images.subset(rest[:arch_count]),
        images.subset(order[:test_count]),
        images.subset(torch.cat([rest[arch_count:], rest[:arch_count]])),
        (channels, height, width),
        classes,
    )


def hold_out_images(
    name: str,
    images: ImageSet,
    test: ImageSet,
    shape: tuple[int, int, int],
    classes: int,
    seed: int,
    arch_count: int,
) -> DatasetSplits:
    """Keep `arch_count` of a data set's training images for the architecture; its test images are given."""
    order = torch.randperm(len(images), generator=seeded_generator(seed, "images for the architecture"))
    kept, rest = images.subset(order[:arch_count]), images.subset(order[arch_count:])
    return DatasetSplits(name, rest, kept, test, images, shape, classes)
