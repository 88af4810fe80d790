"""Size of a photograph encoded as JPEG at a model's input size."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jmsnas.errors import InputError

QUALITY = 90


def jpeg_bytes(size: int, photograph: Path | None = None) -> float:
    """Mean bytes of photographs, cropped to a square, scaled to `size` x `size` and encoded as JPEG.

    Without `photograph`, those of the two sample images of scikit-learn. Raises InputError.
    """
    if photograph is None:
        from sklearn.datasets import load_sample_images

        pictures = [Image.fromarray(image) for image in load_sample_images().images]
    else:
        try:
            with Image.open(photograph) as picture:
                pictures = [picture.convert("RGB")]
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise InputError(f"cannot read the image {photograph}: {error}") from error
    return float(np.mean([_encoded(picture, size) for picture in pictures]))


def _encoded(picture: Image.Image, size: int) -> int:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    square.save(file, "jpeg", quality=QUALITY)
    return len(file.getvalue())
