import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from jmsnas.datasets.image_files import ImageFiles
from jmsnas.datasets.image_folder import imagenet, imagenette
from jmsnas.errors import DatasetError


def class_folders(folder: Path, classes: int = 3, each: int = 8) -> Path:
    draw = np.random.default_rng(0)
    for part, count in (("train", each), ("val", 2)):
        for label in range(classes):
            inner = folder / part / f"n{label:08d}"
            inner.mkdir(parents=True)
            for n in range(count):
                Image.fromarray(draw.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(inner / f"{n}.JPEG")
    return folder


def test_class_folders(tmp_path: Path) -> None:
    splits = imagenet(0, class_folders(tmp_path), 32, 0)
    assert [len(part) for part in (splits.train, splits.arch, splits.test)] == [18, 6, 6]
    assert splits.classes == 3 and splits.shape == (3, 32, 32)
    assert splits.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_imagenette_as_a_tree_as_its_archive_unpacks_and_as_parquet(tmp_path: Path) -> None:
    tree = class_folders(tmp_path / "imagenette2-160", classes=10, each=5)
    splits = imagenette(0, tmp_path, 32, 0)
    assert [len(part) for part in (splits.train, splits.arch, splits.test)] == [40, 10, 20]
    files = sorted(tree.glob("train/*/*.JPEG"))
    table = {"image": [path.read_bytes() for path in files], "label": [n // 5 for n in range(50)]}
    flat = tmp_path / "flat"
    flat.mkdir()
    for part in ("train-0-of-1", "test-0-of-1"):
        parquet.write_table(pa.table(table), flat / f"{part}.parquet")
    again = imagenette(0, flat, 32, 0)
    assert isinstance(splits.train_and_arch, ImageFiles) and isinstance(again.train_and_arch, ImageFiles)
    whole, other = splits.train_and_arch, again.train_and_arch
    assert (whole.decode(7, None) == other.decode(7, None)).all()
    assert whole.labels.tolist() == other.labels.tolist()


def test_wrong_folders_are_one_line_that_says_what_to_place_there(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError,
        match=r"data set imagenet is not in .*: expected folders train/<class>/ of JPEG files there; it "
        r"may not be downloaded .*ILSVRC2012_img_val.tar \(MD5 29b22e2961454d5413ddabcf34fc5622\).*data-dir",
    ):
        imagenet(0, tmp_path, 32, 0)
    tree = class_folders(tmp_path / "tree")
    shutil.move(tree / "val" / "n00000002", tree / "val" / "n00000009")
    with pytest.raises(DatasetError, match="train and val hold different classes: n00000002 is in one"):
        imagenet(0, tree, 32, 0)
    shutil.move(tree / "val" / "n00000009", tree / "val" / "n00000002")
    shutil.rmtree(tree / "train" / "n00000001")
    (tree / "train" / "n00000001").mkdir()
    with pytest.raises(DatasetError, match="n00000001 holds no image: expected files .jpeg, .jpg, .png"):
        imagenet(0, tree, 32, 0)
    (tmp_path / "train-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="train-.*.parquet cannot be read as images and labels: "):
        imagenette(0, tmp_path, 32, 0)


def image_bytes(side: int = 48) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "jpeg")
    return file.getvalue()


GOOD = image_bytes()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"image": [GOOD, GOOD], "label": [1, None]}, "row 2 has label None: expected .* label from 0 to 9"),
        ({"image": [GOOD, None], "label": [1, 2]}, "row 2 has no image: expected an image"),
        ({"image": [GOOD], "label": [10]}, "row 1 has label 10"),
        ({"image": [GOOD], "label": [-1]}, "row 1 has label -1"),
        ({"image": [GOOD], "label": [2**62]}, "row 1 has label 4611686018427387904"),
        ({"image": [GOOD], "label": [1.5]}, "labels of type double: expected binary, integer"),
        ({"image": ["text"], "label": [1]}, "images of type string"),
        ({"image": [{"bytes": GOOD}], "label": [1]}, "images of type struct"),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "has no rows"),
        ({"image": [GOOD]}, "cannot be read as images and labels: "),
        ({"image": [None] * 3, "label": [None] * 3}, "images of type null"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_images_is_one_line(table: dict[str, Any], message: str, tmp_path: Path) -> None:
    for part in ("train-0", "test-0"):
        parquet.write_table(pa.table(table), tmp_path / f"{part}.parquet")
    with pytest.raises(DatasetError, match=message) as error:
        imagenette(0, tmp_path, 32, 0)
    assert "\n" not in str(error.value)


def test_forty_million_images_of_a_small_file_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    count = 40_000_000
    images = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), pa.array([GOOD]))
    table = pa.table({"image": images, "label": pa.array(np.zeros(count, np.int8))})
    parquet.write_table(table, tmp_path / "train-0.parquet", row_group_size=count)
    assert (tmp_path / "train-0.parquet").stat().st_size < 4 << 20
    with pytest.raises(DatasetError, match="it has 8000000. values, expected at most 20000000"):
        imagenette(0, tmp_path, 32, 0)
