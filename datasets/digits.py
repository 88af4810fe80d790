"""The handwritten digits of scikit-learn: 1797 grey 8x8 images in ten classes (UCI; Alpaydin and Kaynak)."""

import torch
from sklearn.datasets import load_digits

from jmsnas.datasets.splits import DatasetSplits, InMemoryImages

_TEST, _ARCH = 360, 359  # a fifth of the images, and a quarter of the others


def digits(seed: int) -> DatasetSplits:
    """Load the digits, scaled from 0 .. 16 to -1 .. 1: 1078 train, 359 architecture and 360 test images.

    The test images are the same for every seed, so that accuracies are comparable; `seed` sets the rest.
    """
    bunch = load_digits()
    pixels = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 8 - 1
    images = InMemoryImages(pixels, torch.tensor(bunch.target, dtype=torch.int64))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, rest = order[:_TEST], order[_TEST:]
    rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))]
    arch, train = rest[:_ARCH], rest[_ARCH:]
    return DatasetSplits(
        "digits",
        train=images.subset(train),
        arch=images.subset(arch),
        test=images.subset(test),
        train_and_arch=images.subset(torch.cat([train, arch])),
        shape=(1, 8, 8),
        classes=10,
    )
