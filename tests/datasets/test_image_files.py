import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jmsnas.datasets.image_files import ImageFiles, random_crop_box
from jmsnas.errors import DatasetError, InputError
from jmsnas.nas.split.jpeg_size import jpeg_bytes

ROWS = [torch.tensor([0, 1]), torch.tensor([2, 3])]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageFiles:
    """Four noise images of different sizes."""
    folder, files = tmp_path_factory.mktemp("images"), list[Path | bytes]()
    draw = np.random.default_rng(0)
    for n, (height, width) in enumerate([(40, 60), (64, 48), (50, 50), (90, 70)]):
        path = folder / f"{n}.jpeg"
        Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        files.append(path)
    return ImageFiles(files, torch.arange(4), size=32)


def test_batches_have_the_size_and_scale_of_the_model(images: ImageFiles) -> None:
    batches = list(images.plain(ROWS))
    assert [batch.shape for batch in batches] == [(2, 3, 32, 32)] * 2
    assert all(batch.dtype == torch.float32 and batch.abs().max() < 3 for batch in batches)


def test_a_crop_is_drawn_from_seed_and_row_alone(images: ImageFiles) -> None:
    state = torch.get_rng_state()
    first, again = list(images.augmented(ROWS, 7)), list(images.augmented(ROWS[1:], 7, first=1))
    assert torch.equal(first[1], again[0])
    assert not torch.equal(first[1], list(images.augmented(ROWS[1:], 8))[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_number_of_processes_changes_nothing(images: ImageFiles) -> None:
    from dataclasses import replace

    alone, helped = (list(replace(images, workers=n).augmented(ROWS, 7)) for n in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_random_crop_box_lies_inside_and_has_an_allowed_aspect() -> None:
    draw, areas = np.random.default_rng(0), list[float]()
    for _ in range(300):
        left, top, right, bottom = random_crop_box(200, 100, draw, 0.35)
        assert 0 <= left < right <= 200 and 0 <= top < bottom <= 100
        assert 0.72 < (right - left) / (bottom - top) < 1.4  # 3/4 to 4/3, and rounding
        areas.append((right - left) * (bottom - top) / 20_000)
    assert min(areas) > 0.34 and max(areas) < 0.68  # a box of 4/3 and all 100 high is 2/3 of the image


def test_invalid_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jpeg").write_bytes(b"not an image")
    broken = ImageFiles([tmp_path / "x.jpeg", b"nor this"], torch.zeros(2), 32)
    for row, name in ((0, "x.jpeg"), (1, "image 1")):
        with pytest.raises(DatasetError, match=f"cannot read .*{name}: it is none of JPEG, PNG"):
            broken.decode(row, None)


def png_of_size(width: int, height: int) -> bytes:
    """The first bytes of a PNG file that claims a size; its pixels are missing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize(("width", "height"), [(10_000, 9_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_image_of_too_many_pixels_is_refused_before_it_is_decoded(
    width: int, height: int, tmp_path: Path
) -> None:
    (tmp_path / "bomb.png").write_bytes(png_of_size(width, height))
    for file in (tmp_path / "bomb.png", png_of_size(width, height)):
        with pytest.raises(DatasetError, match="cannot read .*pixels"):
            ImageFiles([file], torch.zeros(1), 32).decode(0, None)
    with pytest.raises(InputError, match="cannot read the image .*bomb.png: .*pixels"):
        jpeg_bytes(224, 224, tmp_path / "bomb.png")


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_image_is_decoded_or_named(data: st.DataObject) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 20)).save(file, data.draw(st.sampled_from(["jpeg", "png"])))
    content = bytearray(file.getvalue())
    for _ in range(3):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DatasetError):
        ImageFiles([bytes(content)], torch.zeros(1), 8).decode(0, None)


def test_formats_that_run_other_programs_are_refused() -> None:
    with pytest.raises(DatasetError, match="cannot read image 0"):
        ImageFiles([b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"], torch.zeros(1), 8).decode(0, None)
