import gzip
import hashlib
import io
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from jmsnas.datasets import fashion_mnist_cifar10
from jmsnas.datasets.fashion_mnist_cifar10 import cifar10, fashion_mnist
from jmsnas.datasets.fetch import PublishedFile, fetch
from jmsnas.datasets.splits import InMemoryImages
from jmsnas.errors import DatasetError


def idx(values: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> bytes:
    sizes = np.array(values.shape, dtype=">u4").tobytes()
    return gzip.compress(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


def published(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    """Let torchvision name these files and their sums as Fashion-MNIST's."""
    from torchvision.datasets import FashionMNIST

    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Four files as Fashion-MNIST's, of 20,000 and 10 images of 2x2."""
    draw = np.random.default_rng(0)
    made = {
        "train-images.gz": idx(draw.integers(0, 256, (20_000, 2, 2), dtype=np.uint8)),
        "train-labels.gz": idx(draw.integers(0, 10, 20_000, dtype=np.uint8)),
        "t10k-images.gz": idx(np.arange(40, dtype=np.uint8).reshape(10, 2, 2)),
        "t10k-labels.gz": idx(np.arange(10, dtype=np.uint8)),
    }
    published(monkeypatch, made)
    return made


@pytest.mark.parametrize("inner", ["", "FashionMNIST/raw"])
def test_fashion_mnist_from_its_own_files(tmp_path: Path, files: dict[str, bytes], inner: str) -> None:
    (tmp_path / inner).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (tmp_path / inner / name).write_bytes(content)
    splits = fashion_mnist(0, tmp_path)
    assert [len(part) for part in (splits.train, splits.arch, splits.test)] == [5_000, 15_000, 10]
    assert isinstance(splits.test, InMemoryImages)
    assert splits.test.pixels.flatten().tolist() == list(range(40))
    assert splits.test.labels.tolist() == list(range(10))


def test_what_is_missing_is_one_line_with_names_and_sums(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "train-images.gz").write_bytes(files["train-images.gz"])
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    with pytest.raises(DatasetError) as caught:
        fashion_mnist(0, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"data set fashion-mnist is not in {tmp_path} and could not be downloaded (")
    assert "\n" not in message and message.endswith("or name another folder with --data-dir")
    assert all(
        (f"{name} (MD5 {md5})" in message) == (name != "train-images.gz") for name, md5 in sums.items()
    )


def test_a_wrong_file_is_named_with_both_sums(tmp_path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "t10k-labels.gz").write_bytes(b"other")
    with pytest.raises(
        DatasetError,
        match="is not the t10k-labels.gz of data set fashion-mnist: its MD5 is .*expected .*Remove it",
    ):
        fashion_mnist(0, tmp_path)


def test_a_file_that_can_be_had_is_downloaded(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"content")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/there"
        file = PublishedFile("x.gz", hashlib.md5(b"content").hexdigest(), address)
        (path,) = fetch("x", [file], tmp_path / "data")
        server.shutdown()
    assert path == tmp_path / "data" / "x.gz" and path.read_bytes() == b"content"
    assert [p.name for p in path.parent.iterdir()] == ["x.gz"]


def test_cifar10_from_the_binary_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
            rows = np.zeros((10_000, 3073), dtype=np.uint8)
            rows[:9, :9] = draw.integers(0, 10, (9, 9))
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = rows.size
            archive.addfile(info, io.BytesIO(rows.tobytes()))
    monkeypatch.setattr(fashion_mnist_cifar10, "_CIFAR_MD5", hashlib.md5(path.read_bytes()).hexdigest())
    splits = cifar10(0, tmp_path)
    assert [len(part) for part in (splits.train, splits.arch, splits.test)] == [37_500, 12_500, 10_000]
    assert isinstance(splits.test, InMemoryImages) and splits.test.pixels.dtype == torch.uint8
    assert splits.test.pixels[3].flatten().tolist() == rows[3, 1:].tolist()
    assert splits.test.labels.tolist() == rows[:, 0].tolist()
