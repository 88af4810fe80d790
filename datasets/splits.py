"""Image data sets split into training (weights), architecture and test images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from jmsnas.datasets.seeding import seeded_generator

BatchRows = Sequence[Tensor]


class ImageSet(Protocol):
    """Labelled images, in memory or as files: the interface that training and evaluation use."""

    @property
    def labels(self) -> Tensor:
        """(count,) int64."""

    def __len__(self) -> int:
        """Return the number of images."""

    def subset(self, rows: Tensor) -> Self:
        """Return the images of these rows."""

    def plain(self, rows: BatchRows) -> Iterator[Tensor]:
        """Yield each batch of rows unaugmented, normalised: (count, channels, height, width) float32."""

    def augmented(self, rows: BatchRows, seed: int, first: int = 0) -> Iterator[Tensor]:
        """Yield each batch of rows with random augmentation; `first` is the number of the first batch.

        The augmentation of a batch depends on the epoch's seed, the batch's number and its rows only.
        """


@dataclass(frozen=True, slots=True)
class InMemoryImages:
    """Images held in memory as one tensor.

    Attributes
    ----------
    pixels
        (count, channels, height, width): float32 that is normalised already, or uint8.
    labels
        (count,) int64.
    shift, flip
        Augmentation: largest shift in pixels in each direction, zero-padded; whether to flip horizontally.
    mean, deviation
        Mean and standard deviation per channel of uint8 pixels scaled to 0 .. 1.
    """

    pixels: Tensor
    labels: Tensor
    shift: int = 1
    flip: bool = False
    mean: tuple[float, ...] = (0.5,)
    deviation: tuple[float, ...] = (0.5,)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def subset(self, rows: Tensor) -> Self:
        """Return the images of these rows."""
        return replace(self, pixels=self.pixels[rows], labels=self.labels[rows])

    def plain(self, rows: BatchRows) -> Iterator[Tensor]:
        """See `ImageSet.plain`."""
        return (self._normalised(self.pixels[chosen]) for chosen in rows)

    def augmented(self, rows: BatchRows, seed: int, first: int = 0) -> Iterator[Tensor]:
        """See `ImageSet.augmented`."""
        for number, x_NCHW in enumerate(self.plain(rows), first):
            generator = seeded_generator(seed, "augmentation", number)
            x_NCHW = random_shift(x_NCHW, generator, self.shift) if self.shift else x_NCHW
            yield random_flip(x_NCHW, generator) if self.flip else x_NCHW

    def _normalised(self, pixels: Tensor) -> Tensor:
        if pixels.dtype != torch.uint8:
            return pixels
        mean, deviation = (torch.tensor(by)[:, None, None] for by in (self.mean, self.deviation))
        return (pixels / 255 - mean) / deviation


def random_shift(x_NCHW: Tensor, generator: torch.Generator, max_shift: int = 1) -> Tensor:
    """Shift each image at random by up to `max_shift` pixels vertically and horizontally, zero-padded."""
    count, _, height, width = x_NCHW.shape
    padded = F.pad(x_NCHW, (max_shift,) * 4)
    shift_N2 = torch.randint(0, 2 * max_shift + 1, (count, 2), generator=generator)
    rows = shift_N2[:, :1] + torch.arange(height)
    columns = shift_N2[:, 1:] + torch.arange(width)
    index = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_flip(x_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each image horizontally with probability 0.5."""
    flip_N = torch.rand(len(x_NCHW), generator=generator) < 0.5
    return torch.where(flip_N[:, None, None, None], x_NCHW.flip(3), x_NCHW)


@dataclass(frozen=True, slots=True)
class DatasetSplits:
    """A data set: `train` for the weights, `arch` for the architecture parameters, `test` for evaluation.

    `train_and_arch` holds all images except the test images; the second stage trains on it.
    """

    name: str
    train: ImageSet
    arch: ImageSet
    test: ImageSet
    train_and_arch: ImageSet
    shape: tuple[int, int, int]
    classes: int


def hold_out_images(
    name: str,
    images: ImageSet,
    test: ImageSet,
    shape: tuple[int, int, int],
    classes: int,
    seed: int,
    arch_count: int,
) -> DatasetSplits:
    """Hold out `arch_count` random training images for the architecture; the test images are given."""
    order = torch.randperm(len(images), generator=seeded_generator(seed, "images for the architecture"))
    arch, train = images.subset(order[:arch_count]), images.subset(order[arch_count:])
    return DatasetSplits(name, train, arch, test, images, shape, classes)
