"""Photographs as files: decoded, cropped and scaled when a batch is made, by processes of their own.

Augmentation as the field trains on ImageNet (Inception's random resized crop, and mirroring); evaluation on
the centre of the image, 8/7 of the input's size. What is drawn for an image depends on (seed, row) alone, so
that the number of processes changes nothing.
"""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from jmsnas.datasets.seeding import derive_seed
from jmsnas.datasets.splits import BatchRows
from jmsnas.errors import DatasetError

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
_LEAST_AREA, _MOST_ASPECT, _TRIES = 0.08, 4 / 3, 10
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images as files or as the bytes of files.

    `size`: height and width a network takes. `least_area`: the smallest share of an image that a random crop
    shows. `workers`: processes that decode (0: the training's own).
    """

    files: Sequence[Path | bytes]
    labels: Tensor
    size: int
    least_area: float = _LEAST_AREA
    workers: int = 0

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.labels)

    def subset(self, rows: Tensor) -> Self:
        """Give the images of these rows."""
        return replace(self, files=[self.files[row] for row in rows.tolist()], labels=self.labels[rows])

    def plain(self, rows: BatchRows) -> Iterator[Tensor]:
        """See `ImageSet.plain`."""
        return self._loaded(rows, None)

    def augmented(self, rows: BatchRows, seed: int, first: int = 0) -> Iterator[Tensor]:
        """See `ImageSet.augmented`."""
        return self._loaded(rows, seed)

    def _loaded(self, rows: BatchRows, seed: int | None) -> Iterator[Tensor]:
        loader: DataLoader[Tensor] = DataLoader(
            _Decoded(self, seed),
            batch_sampler=[chosen.tolist() for chosen in rows],
            num_workers=self.workers,
            multiprocessing_context="forkserver" if self.workers else None,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else the global one is drawn from
        )
        mean, deviation = (torch.tensor(by)[:, None, None] for by in (_MEAN, _DEVIATION))
        for x_NCHW in loader:
            yield (x_NCHW / 255 - mean) / deviation

    def decoded(self, row: int, seed: int | None) -> Tensor:
        """Decode one image: its centre, or a random part of it drawn from a seed; (3, size, size) uint8."""
        file = self.files[row]
        try:
            with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
                image = opened.convert("RGB")
        except (OSError, ValueError) as error:
            name = f"image {row}" if isinstance(file, bytes) else file
            raise DatasetError(f"cannot read {name}: {error}") from error
        mirror, box = False, _centre(image.width, image.height)
        if seed is not None:
            draw = np.random.default_rng([derive_seed(seed, "crop", row)])
            box, mirror = (
                random_crop_box(image.width, image.height, draw, self.least_area),
                draw.random() < 0.5,
            )
        small = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
        pixels: NDArray[np.uint8] = np.array(small)[:, ::-1] if mirror else np.array(small)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


class _Decoded(Dataset[Tensor]):
    def __init__(self, pictures: ImageFiles, seed: int | None) -> None:
        self.pictures, self.seed = pictures, seed

    def __getitem__(self, row: int) -> Tensor:
        return self.pictures.decoded(row, self.seed)


def _centre(width: int, height: int) -> Box:
    side = min(width, height) * 7 / 8
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_crop_box(
    width: int, height: int, draw: np.random.Generator, least_area: float = _LEAST_AREA
) -> tuple[float, float, float, float]:
    """Draw a part of an image: `least_area` to all of it, 3/4 to 4/3 as wide as high (arXiv 1409.4842)."""
    for _ in range(_TRIES):
        area = draw.uniform(least_area, 1) * width * height
        aspect = math.exp(draw.uniform(-math.log(_MOST_ASPECT), math.log(_MOST_ASPECT)))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left, top = (
                draw.integers(0, width - wide, endpoint=True),
                draw.integers(0, height - high, endpoint=True),
            )
            return float(left), float(top), float(left + wide), float(top + high)
    return _centre(width, height)
