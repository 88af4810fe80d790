"""Images stored as files, decoded, cropped and resized by data loader workers.

Training uses Inception's random resized crop and a horizontal flip, evaluation the centre crop (7/8 of the
shorter side). The augmentation of an image depends on (seed, row) only, not on the number of workers.
"""

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from jmsnas.datasets.normalisation import IMAGENET
from jmsnas.datasets.seeding import derive_seed
from jmsnas.datasets.splits import BatchRows
from jmsnas.errors import DatasetError, InputError

# Decoded, the largest is 268 MB; photographs of 12-megapixel cameras are far below.
_MAX_PIXELS = 89_478_485
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_MIN_AREA, _MAX_ASPECT, _TRIES = 0.08, 4 / 3, 10
Box = tuple[float, float, float, float]


def decode_image(
    file: Path | bytes,
    name: str,
    error: type[InputError],
    max_pixels: int = _MAX_PIXELS,
    formats: tuple[str, ...] = _FORMATS,
) -> Image.Image:
    """Decode an image file of at most `max_pixels` to RGB; every failure is raised as `error`."""
    try:
        source = io.BytesIO(file) if isinstance(file, bytes) else file
        with warnings.catch_warnings(action="ignore"), Image.open(source, formats=formats) as opened:
            pixels = opened.width * opened.height
            if pixels <= max_pixels:
                return opened.convert("RGB")
    except UnidentifiedImageError:
        raise error(f"cannot read {name}: it is none of {', '.join(formats)}") from None
    except Exception as reason:  # decoders of damaged files raise almost any class
        raise error(f"cannot read {name}: {reason or type(reason).__name__}") from reason
    raise error(f"cannot read {name}: it has {pixels} pixels, expected at most {max_pixels}")


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images as paths of files or as the bytes of files.

    `size` is the height and width of the model's input, `min_area` the smallest share of an image's area that
    a random crop covers, `workers` the number of processes that decode (0: the training process).
    """

    files: Sequence[Path | bytes]
    labels: Tensor
    size: int
    min_area: float = _MIN_AREA
    workers: int = 0

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def subset(self, rows: Tensor) -> Self:
        """Return the images of these rows."""
        return replace(self, files=[self.files[row] for row in rows.tolist()], labels=self.labels[rows])

    def plain(self, rows: BatchRows) -> Iterator[Tensor]:
        """See `ImageSet.plain`."""
        return self._batches(rows, None)

    def augmented(self, rows: BatchRows, seed: int, first: int = 0) -> Iterator[Tensor]:
        """See `ImageSet.augmented`."""
        return self._batches(rows, seed)

    def _batches(self, rows: BatchRows, seed: int | None) -> Iterator[Tensor]:
        loader: DataLoader[Tensor] = DataLoader(
            _DecodedImages(self, seed),
            batch_sampler=[chosen.tolist() for chosen in rows],
            num_workers=self.workers,
            multiprocessing_context="forkserver" if self.workers else None,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # without it the loader draws from the global generator
        )
        mean, deviation = (torch.tensor(by)[:, None, None] for by in (IMAGENET.mean, IMAGENET.deviation))
        for x_NCHW in loader:
            yield (x_NCHW / 255 - mean) / deviation

    def decode(self, row: int, seed: int | None) -> Tensor:
        """Decode one image to (3, size, size) uint8: its centre crop, or with a seed a random crop.

        Raises DatasetError when the file cannot be read or decoded.
        """
        file = self.files[row]
        name = f"image {row}" if isinstance(file, bytes) else str(file)
        image = decode_image(file, name, DatasetError)
        flip, box = False, centre_crop_box(image.width, image.height)
        if seed is not None:
            rng = np.random.default_rng([derive_seed(seed, "crop", row)])
            box, flip = (random_crop_box(image.width, image.height, rng, self.min_area), rng.random() < 0.5)
        resized = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
        pixels: NDArray[np.uint8] = np.array(resized)[:, ::-1] if flip else np.array(resized)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


class _DecodedImages(Dataset[Tensor]):
    def __init__(self, images: ImageFiles, seed: int | None) -> None:
        self.images, self.seed = images, seed

    def __getitem__(self, row: int) -> Tensor:
        return self.images.decode(row, self.seed)


def centre_crop_box(width: int, height: int, share: float = 7 / 8) -> Box:
    """Return the centred square whose side is a share of the image's shorter side."""
    side = min(width, height) * share
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_crop_box(width: int, height: int, rng: np.random.Generator, min_area: float = _MIN_AREA) -> Box:
    """Draw a crop box (left, top, right, bottom) as Inception does (arXiv 1409.4842).

    Its area is `min_area` to 1 of the image's, its aspect ratio 3/4 to 4/3.
    """
    for _ in range(_TRIES):
        area = rng.uniform(min_area, 1) * width * height
        aspect = math.exp(rng.uniform(-math.log(_MAX_ASPECT), math.log(_MAX_ASPECT)))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left = rng.integers(0, width - wide, endpoint=True)
            top = rng.integers(0, height - high, endpoint=True)
            return float(left), float(top), float(left + wide), float(top + high)
    return centre_crop_box(width, height)
