"""Load a data set by name."""

from functools import lru_cache
from pathlib import Path

from jmsnas.datasets.splits import DatasetSplits
from jmsnas.errors import DatasetError
from jmsnas.space import SearchSpace

DATASETS = ("digits", "fashion-mnist", "cifar10", "imagenette", "imagenet")


def check_dataset(name: str) -> None:
    """Check the name of a data set without loading it. Raises DatasetError when it is unknown."""
    if name not in DATASETS:
        raise DatasetError(f"unknown data set {name!r}: expected one of {', '.join(DATASETS)}")


def load_dataset(
    name: str, space: SearchSpace, seed: int, folder: Path = Path("data"), workers: int = 0
) -> DatasetSplits:
    """Load one of `DATASETS` for a search space; imagenet and imagenette are resized to its input size.

    `seed` chooses the images held out for the architecture; `folder` holds the files, and is where they are
    downloaded to (not used for digits); `workers` processes decode image files. Raises DatasetError when the
    data set is unknown, its files are missing or wrong, or it does not fit the space.
    """
    check_dataset(name)
    channels, height, width = space.input_shape
    if name in ("imagenette", "imagenet") and (channels != 3 or height != width):
        size = f"{channels}x{height}x{width}"
        raise DatasetError(
            f"data set {name} has square colour images, space {space.name} takes {size}: "
            "choose another --space or --dataset"
        )
    splits = _load(name, seed, folder, height, workers)
    if (splits.shape, splits.classes) != (space.input_shape, space.classes):
        raise DatasetError(
            f"data set {name} has {splits.classes} classes of {'x'.join(map(str, splits.shape))} images, "
            f"space {space.name} takes {space.classes} classes of {'x'.join(map(str, space.input_shape))}: "
            "choose another --space or --dataset"
        )
    return splits


@lru_cache(maxsize=1)  # a command loads it once to check it and once to train on it
def _load(name: str, seed: int, folder: Path, size: int, workers: int) -> DatasetSplits:
    # torchvision and scikit-learn take seconds to import: each only where it is needed.
    if name == "digits":
        from jmsnas.datasets.digits import digits

        return digits(seed)
    if name in ("fashion-mnist", "cifar10"):
        from jmsnas.datasets.fashion_mnist_cifar10 import cifar10, fashion_mnist

        return (cifar10 if name == "cifar10" else fashion_mnist)(seed, folder)
    from jmsnas.datasets.image_folder import imagenet, imagenette

    return (imagenet if name == "imagenet" else imagenette)(seed, folder, size, workers)
