import io

import numpy as np
import pytest
import torch
from PIL import Image

from jmsnas.datasets import preprocessing
from jmsnas.datasets.digits import digits
from jmsnas.datasets.image_files import ImageFiles
from jmsnas.datasets.preprocessing import preprocess_image
from jmsnas.errors import DatasetError


def encoded(image: Image.Image, kind: str = "png") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_a_digit_as_png_is_the_test_image_itself() -> None:
    x = next(iter(digits(0).test.plain([torch.arange(1)]))).numpy()
    grey = np.rint((x[0, 0] + 1) / 2 * 255).astype(np.uint8)
    found = preprocess_image(encoded(Image.fromarray(grey)), "digits", (1, 8, 8))
    assert found.shape == (1, 1, 8, 8) and found.dtype == np.float32
    np.testing.assert_allclose(found, x, atol=1.001 / 255)  # rounded to a level of 255


def test_a_photograph_is_cropped_and_resized_as_a_test_image() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    file = encoded(Image.fromarray(pixels))
    images = ImageFiles([file], torch.zeros(1, dtype=torch.int64), 32)
    expected = next(iter(images.plain([torch.arange(1)]))).numpy()
    np.testing.assert_allclose(preprocess_image(file, "imagenette", (3, 32, 32)), expected, atol=1e-6)
    # The others have no crop: the left and right tenth of a square of 40 are kept.
    whole = preprocess_image(encoded(Image.fromarray(pixels[:, 10:50])), "cifar10", (3, 40, 40))
    np.testing.assert_allclose(
        whole[0, 0], (pixels[:, 10:50, 0] / np.float32(255) - 0.491) / 0.247, atol=1e-5
    )


def test_files_that_are_no_image_or_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="cannot read the image: it is none of JPEG, PNG"):
        preprocess_image(b"GIF89a", "digits", (1, 8, 8))
    with pytest.raises(DatasetError, match="cannot read the image: it is none of JPEG, PNG"):
        preprocess_image(encoded(Image.new("L", (8, 8)), "bmp"), "digits", (1, 8, 8))
    with pytest.raises(DatasetError, match="cannot read the image"):
        preprocess_image(encoded(Image.new("L", (8, 8)))[:45], "digits", (1, 8, 8))
    monkeypatch.setattr(preprocessing, "MAX_PIXELS", 63)
    with pytest.raises(DatasetError, match="it has 64 pixels, expected at most 63"):
        preprocess_image(encoded(Image.new("L", (8, 8))), "digits", (1, 8, 8))
