"""The handwritten digits of scikit-learn: 1797 grey 8x8 images in ten classes (UCI; Alpaydin and Kaynak)."""

import torch
from sklearn.datasets import load_digits

from jmsnas.datasets.splits import DatasetSplits, InMemoryImages, split_images


def digits(seed: int) -> DatasetSplits:
    """Load the digits, scaled from 0 .. 16 to -1 .. 1: 1078 train, 359 architecture and 360 test images."""
    bunch = load_digits()
    pixels = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    return split_images("digits", InMemoryImages(pixels, labels), 10, seed)
