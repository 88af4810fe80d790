"""Preprocessing of one image file, as of the test images of a data set."""

import numpy as np
from PIL import Image

from jmsnas.arrays import Float32Array
from jmsnas.datasets.image_files import centre_crop_box, decode_image
from jmsnas.datasets.normalisation import NORMALISATIONS
from jmsnas.errors import DatasetError

# 75 MB when decoded: photographs of 24-megapixel cameras.
MAX_PIXELS = 25_000_000


def preprocess_image(content: bytes, dataset: str, shape: tuple[int, int, int]) -> Float32Array:
    """Decode a JPEG or PNG file, crop, resize and normalise it for a model of `dataset`.

    The crop is the centred square that the data set's test images have: 7/8 of the shorter side for imagenet
    and imagenette, else all of it. `shape` is (channels, height, width) of the model's input; returns
    (1, channels, height, width) float32. Raises DatasetError for a file that is no such image, or one of more
    than 25 million pixels.
    """
    channels, height, width = shape
    image = decode_image(content, "the image", DatasetError, MAX_PIXELS, ("JPEG", "PNG"))
    share = 7 / 8 if dataset in ("imagenet", "imagenette") else 1.0
    box = centre_crop_box(image.width, image.height, share)
    resized = image.resize((width, height), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
    pixels = np.asarray(resized.convert("L" if channels == 1 else "RGB"), np.float32)
    own = NORMALISATIONS[dataset]
    mean, deviation = np.array(own.mean, np.float32), np.array(own.deviation, np.float32)
    x_HWC = (pixels.reshape(height, width, channels) / np.float32(255) - mean) / deviation
    x_NCHW: Float32Array = np.ascontiguousarray(x_HWC.transpose(2, 0, 1)[None], np.float32)
    return x_NCHW
