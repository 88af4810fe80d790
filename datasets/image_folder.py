"""Imagenette and ImageNet: folders of photographs, one a class, or Imagenette as Parquet files of JPEGs."""

import tarfile
from pathlib import Path

import torch

from jmsnas.datasets.fetch import PublishedFile, fetch
from jmsnas.datasets.image_files import ImageFiles
from jmsnas.datasets.splits import DatasetSplits, hold_out_images
from jmsnas.errors import DatasetError

_SUFFIXES = (".jpeg", ".jpg", ".png")
# A small crop of a small photograph shows nothing: Imagenette's own baselines take 0.35 and more.
_IMAGENETTE_LEAST_AREA = 0.35


def imagenet(seed: int, folder: Path, size: int, workers: int, arch_count: int = 50_000) -> DatasetSplits:
    """ImageNet (ILSVRC 2012) as folders `train/<class>/` and `val/<class>/`; `val` is the test.

    50,000 of the training images are kept for the architecture (section V-B). Raises DatasetError.
    """
    train, test, classes = _tree("imagenet", folder, size, workers, _NOT_TO_BE_HAD)
    count = min(arch_count, len(train) // 4)  # a cut of ImageNet keeps a quarter
    return hold_out_images("imagenet", train, test, (3, size, size), classes, seed, count)


_NOT_TO_BE_HAD = (
    "it may not be downloaded by a program: get ILSVRC2012_img_train.tar (MD5 "
    "1d675b47d978889d74fa0da5fadfb00e) and ILSVRC2012_img_val.tar (MD5 29b22e2961454d5413ddabcf34fc5622) "
    "from its makers and unpack them"
)


def imagenette(seed: int, folder: Path, size: int, workers: int) -> DatasetSplits:
    """Ten classes of ImageNet (fast.ai), 9,469 training images, a fifth of them for the architecture.

    As folders `train/<class>/` and `val/<class>/` (also below `imagenette2-160`), as the archive of that
    name, or as Parquet files with the columns `image` (a JPEG file) and `label`. Raises DatasetError.
    """
    if any(folder.glob("*.parquet")):
        train, test = (_parquet(folder, part, size, workers) for part in ("train", "test"))
        classes = 10
    else:
        train, test, classes = _tree(
            "imagenette", _unpacked(folder), size, workers, "take what is there away to have it downloaded"
        )
    return hold_out_images("imagenette", train, test, (3, size, size), classes, seed, len(train) // 5)


def _unpacked(folder: Path) -> Path:
    from torchvision.datasets import Imagenette

    address, md5 = map(str, Imagenette._ARCHIVES["160px"])
    name = address.rsplit("/", 1)[1]
    for place in (folder, folder / name.removesuffix(".tgz")):
        if (place / "train").is_dir():
            return place
    (path,) = fetch("imagenette", [PublishedFile(name, md5, address)], folder)
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    return folder / name.removesuffix(".tgz")


def _tree(
    dataset: str, folder: Path, size: int, workers: int, otherwise: str
) -> tuple[ImageFiles, ImageFiles, int]:
    """Read `train` and `val` of a folder, which must name the same classes."""
    names = []
    for part in ("train", "val"):
        inner = folder / part
        classes = sorted(path.name for path in inner.iterdir() if path.is_dir()) if inner.is_dir() else []
        if not classes:
            raise DatasetError(
                f"data set {dataset} is not in {folder}: expected folders {part}/<class>/ of JPEG files "
                f"there; {otherwise}, or name another folder with --data-dir"
            )
        names.append(classes)
    if names[0] != names[1]:
        other = sorted(set(names[0]) ^ set(names[1]))[0]
        raise DatasetError(f"{folder}: train and val hold different classes: {other} is in one of them only")
    train, test = (_part(folder / part, names[0], size, workers) for part in ("train", "val"))
    return train, test, len(names[0])


def _part(folder: Path, classes: list[str], size: int, workers: int) -> ImageFiles:
    files: list[Path | bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        of_class = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in _SUFFIXES)
        if not of_class:
            raise DatasetError(f"{folder / name} holds no image: expected files {', '.join(_SUFFIXES)}")
        files += of_class
        labels += [label] * len(of_class)
    return ImageFiles(files, torch.tensor(labels), size, workers=workers)


def _parquet(folder: Path, part: str, size: int, workers: int) -> ImageFiles:
    import pyarrow
    from pyarrow import parquet

    paths = sorted(folder.glob(f"{part}-*.parquet"))
    if not paths:
        raise DatasetError(
            f"data set imagenette is not in {folder}: expected {part}-*.parquet beside the others"
        )
    try:
        table = parquet.read_table(paths, columns=["image", "label"])
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(
            f"{folder}: {part}-*.parquet cannot be read as images and labels: {reason}"
        ) from error
    labels = torch.tensor(table["label"].to_pylist())
    return ImageFiles(table["image"].to_pylist(), labels, size, _IMAGENETTE_LEAST_AREA, workers)
