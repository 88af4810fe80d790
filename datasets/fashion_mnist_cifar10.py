"""Fashion-MNIST and CIFAR-10, read from their publishers' files into memory as uint8.

Both are read without pickle: from IDX files, and from the binary version of CIFAR-10.
"""

import gzip
import tarfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jmsnas.datasets.fetch import PublishedFile, fetch
from jmsnas.datasets.normalisation import NORMALISATIONS
from jmsnas.datasets.splits import DatasetSplits, InMemoryImages, hold_out_images
from jmsnas.errors import DatasetError

# Of the binary version; torchvision has the checksum of the pickled one only.
_CIFAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_CIFAR_BYTES = 10_000 * (1 + 3 * 32 * 32)


def fashion_mnist(seed: int, folder: Path) -> DatasetSplits:
    """Load Fashion-MNIST (arXiv 1708.07747), 28x28 grey: 45,000 train, 15,000 arch, 10,000 test images.

    Augmentation: shifts of up to two pixels and horizontal flips. Raises DatasetError.
    """
    from torchvision.datasets import FashionMNIST

    mirror = FashionMNIST.mirrors[0]
    files = [PublishedFile(name, md5, mirror + name) for name, md5 in FashionMNIST.resources]
    train_x, train_y, test_x, test_y = (
        _read_idx(path) for path in fetch("fashion-mnist", files, folder, "FashionMNIST/raw")
    )
    own = NORMALISATIONS["fashion-mnist"]
    train, test = (
        InMemoryImages(x[:, None], y.to(torch.int64), 2, True, own.mean, own.deviation)
        for x, y in ((train_x, train_y), (test_x, test_y))
    )
    return hold_out_images("fashion-mnist", train, test, (1, 28, 28), 10, seed, 15_000)


def _read_idx(path: Path) -> Tensor:
    """Read an IDX file of bytes: magic 0x0800 + dimensions, sizes, values; big-endian."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"cannot read {path}: {error}") from error
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, 4).astype(int).tolist()
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    return torch.from_numpy(values.reshape(shape).copy())


def cifar10(seed: int, folder: Path) -> DatasetSplits:
    """Load CIFAR-10 (A. Krizhevsky), 32x32 colour: 37,500 train, 12,500 arch, 10,000 test images.

    Augmentation: shifts of up to four pixels and horizontal flips. Raises DatasetError.
    """
    from torchvision.datasets import CIFAR10

    name = CIFAR10.filename.replace("python", "binary")
    file = PublishedFile(name, _CIFAR_MD5, CIFAR10.url.replace("python", "binary"))
    (path,) = fetch("cifar10", [file], folder)
    with tarfile.open(path) as archive:
        batches = [_cifar_batch(archive, f"data_batch_{n}") for n in range(1, 6)]
        test = _cifar_images(_cifar_batch(archive, "test_batch"))
    return hold_out_images("cifar10", _cifar_images(torch.cat(batches)), test, (3, 32, 32), 10, seed, 12_500)


def _cifar_batch(archive: tarfile.TarFile, name: str) -> Tensor:
    file = archive.extractfile(f"cifar-10-batches-bin/{name}.bin")
    content = file.read(_CIFAR_BYTES) if file else b""
    return torch.from_numpy(np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32).copy())


def _cifar_images(rows: Tensor) -> InMemoryImages:
    pixels, labels = rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].to(torch.int64)
    own = NORMALISATIONS["cifar10"]
    return InMemoryImages(pixels, labels, 4, True, own.mean, own.deviation)
