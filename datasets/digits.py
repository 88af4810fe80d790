"""scikit-learn's bundled digits: 1797 grey 8x8 images of ten digits (UCI, E. Alpaydin and C. Kaynak)."""

import torch
from sklearn.datasets import load_digits

from jmsnas.datasets.splits import DatasetSplits, InMemoryImages, split_images


def digits(seed: int) -> DatasetSplits:
    """Load the digits as they are, 8x8, from 0 .. 16 to -1 .. 1: 1078 train, 359 arch, 360 test images."""
    bunch = load_digits()
    pixels = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 8 - 1
    return split_images(
        "digits", InMemoryImages(pixels, torch.tensor(bunch.target, dtype=torch.int64)), 10, seed
    )
