"""ImageNet and Imagenette: folders of image files, one folder a class, or Imagenette as Parquet files."""

import tarfile
from pathlib import Path

import torch

from jmsnas.datasets.fetch import PublishedFile, fetch
from jmsnas.datasets.image_files import ImageFiles
from jmsnas.datasets.splits import DatasetSplits, hold_out_images
from jmsnas.errors import DatasetError
from jmsnas.files import read_bytes

_SUFFIXES = (".jpeg", ".jpg", ".png")
# Smaller crops of these 160-pixel images show no object: Imagenette's own baselines use 0.35 and more.
_IMAGENETTE_MIN_AREA = 0.35
_IMAGENETTE_CLASSES = 10
_MAX_IMAGE_BYTES = 1 << 30
_NO_DOWNLOAD = (
    "it may not be downloaded by a program: get ILSVRC2012_img_train.tar (MD5 "
    "1d675b47d978889d74fa0da5fadfb00e) and ILSVRC2012_img_val.tar (MD5 29b22e2961454d5413ddabcf34fc5622) "
    "from its publishers and unpack them"
)


def imagenet(seed: int, folder: Path, size: int, workers: int) -> DatasetSplits:
    """Load ImageNet (ILSVRC 2012) from folders `train/<class>/` and `val/<class>/`; `val` is the test set.

    50,000 training images are held out for the architecture (section V-B). Raises DatasetError.
    """
    train, test, classes = _train_and_val("imagenet", folder, size, workers, _NO_DOWNLOAD)
    count = min(50_000, len(train) // 4)  # of a subset of ImageNet, a quarter
    return hold_out_images("imagenet", train, test, (3, size, size), classes, seed, count)


def imagenette(seed: int, folder: Path, size: int, workers: int) -> DatasetSplits:
    """Load Imagenette (fast.ai): ten classes of ImageNet, 9,469 training images.

    A fifth of them is held out for the architecture. Read from folders `train/<class>/` and `val/<class>/`
    (also below `imagenette2-160`), from the archive of that name, or from Parquet files with the columns
    `image` (a JPEG file) and `label`. Raises DatasetError.
    """
    if any(folder.glob("*.parquet")):
        train, test = (_parquet_files(folder, part, size, workers) for part in ("train", "test"))
        classes = _IMAGENETTE_CLASSES
    else:
        train, test, classes = _train_and_val(
            "imagenette", _unpacked(folder), size, workers, "remove the files there to have it downloaded"
        )
    return hold_out_images("imagenette", train, test, (3, size, size), classes, seed, len(train) // 5)


def _unpacked(folder: Path) -> Path:
    from torchvision.datasets import Imagenette

    url, md5 = map(str, Imagenette._ARCHIVES["160px"])
    name = url.rsplit("/", 1)[1]
    for candidate in (folder, folder / name.removesuffix(".tgz")):
        if (candidate / "train").is_dir():
            return candidate
    (path,) = fetch("imagenette", [PublishedFile(name, md5, url)], folder)
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    return folder / name.removesuffix(".tgz")


def _train_and_val(
    dataset: str, folder: Path, size: int, workers: int, otherwise: str
) -> tuple[ImageFiles, ImageFiles, int]:
    """Read `train` and `val` of a folder, which must have the same classes."""
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
    train, test = (_class_folders(folder / part, names[0], size, workers) for part in ("train", "val"))
    return train, test, len(names[0])


def _class_folders(folder: Path, classes: list[str], size: int, workers: int) -> ImageFiles:
    files: list[Path | bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        of_class = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in _SUFFIXES)
        if not of_class:
            raise DatasetError(f"{folder / name} holds no image: expected files {', '.join(_SUFFIXES)}")
        files += of_class
        labels += [label] * len(of_class)
    return ImageFiles(files, torch.tensor(labels), size, workers=workers)


def _parquet_files(folder: Path, part: str, size: int, workers: int) -> ImageFiles:
    paths = sorted(folder.glob(f"{part}-*.parquet"))
    if not paths:
        raise DatasetError(
            f"data set imagenette is not in {folder}: expected {part}-*.parquet beside the others"
        )
    images: list[bytes] = []
    labels: list[int] = []
    for path in paths:
        of_file, labels_of_file = _parquet_file(path)
        images, labels = images + of_file, labels + labels_of_file
        if sum(map(len, images)) > _MAX_IMAGE_BYTES:
            raise DatasetError(
                f"{folder}: {part}-*.parquet have more than {_MAX_IMAGE_BYTES} bytes of images"
            )
    return ImageFiles(images, torch.tensor(labels), size, _IMAGENETTE_MIN_AREA, workers)


def _parquet_file(path: Path) -> tuple[list[bytes], list[int]]:
    """Read the images and labels of a Parquet file, within limits on rows and bytes. Raises DatasetError."""
    from pyarrow import types

    from jmsnas.profiler.table.parquet import PARQUET_ERRORS, first_line
    from jmsnas.profiler.table.safe_parquet import read_columns

    content = read_bytes(path, _MAX_IMAGE_BYTES, DatasetError, "images of a data set")
    try:
        table = read_columns(content, ["image", "label"])
    except (*PARQUET_ERRORS, KeyError) as error:
        raise DatasetError(f"{path} cannot be read as images and labels: {first_line(error)}") from error
    image, label = (table.schema.field(name).type for name in ("image", "label"))
    if not (types.is_binary(image) or types.is_large_binary(image)) or not types.is_integer(label):
        raise DatasetError(
            f"{path} has images of type {image}, labels of type {label}: expected binary, integer"
        )
    images, labels = table["image"].to_pylist(), table["label"].to_pylist()
    for row, (file, number) in enumerate(zip(images, labels, strict=True)):
        if file is None or number is None or not 0 <= number < _IMAGENETTE_CLASSES:
            raise DatasetError(
                f"{path} row {row + 1} has {'no image' if file is None else f'label {number}'}: expected an "
                f"image and a label from 0 to {_IMAGENETTE_CLASSES - 1}"
            )
    if not images:
        raise DatasetError(f"{path} has no rows: expected images and labels")
    return images, labels
