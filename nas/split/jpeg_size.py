"""Size of a photograph encoded as JPEG with the sides of a model's input."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from jmsnas.errors import InputError

QUALITY = 90
MAX_SIDE = 4096


def image_sides(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Height and width of an input of three channels, first or last; None for any other input."""
    if len(shape) != 3 or 3 not in (shape[0], shape[2]):
        return None
    height, width = shape[1:] if shape[0] == 3 else shape[:2]
    return (height, width) if max(height, width) <= MAX_SIDE else None


def jpeg_bytes(height: int, width: int, photograph: Path | None = None) -> float:
    """Mean bytes of photographs, cropped to these proportions, scaled to `height` x `width`, as JPEG.

    Without `photograph`, those of the two sample images of scikit-learn. Raises InputError.
    """
    if photograph is None:
        from sklearn.datasets import load_sample_images

        pictures = [Image.fromarray(image) for image in load_sample_images().images]
    else:
        from jmsnas.datasets.image_files import decode_image  # imports torch

        pictures = [decode_image(photograph, f"the image {photograph}", InputError)]
    return float(np.mean([_encoded(picture, height, width) for picture in pictures]))


def _encoded(picture: Image.Image, height: int, width: int) -> int:
    # The largest part of the picture that has the proportions of the input.
    scale = min(picture.width / width, picture.height / height)
    across, down = max(1, round(scale * width)), max(1, round(scale * height))
    left, top = (picture.width - across) // 2, (picture.height - down) // 2
    part = picture.crop((left, top, left + across, top + down))
    file = io.BytesIO()
    part.resize((width, height), Image.Resampling.BICUBIC).save(file, "jpeg", quality=QUALITY)
    return len(file.getvalue())
