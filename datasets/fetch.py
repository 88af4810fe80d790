"""Find the files of a published data set in a folder, or download them, and verify their checksums."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jmsnas.errors import DatasetError
from jmsnas.files import make_folder

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file of a data set: its name, its published MD5 and its URL."""

    name: str
    md5: str
    url: str


def fetch(dataset: str, files: Sequence[PublishedFile], folder: Path, inner: str = "") -> list[Path]:
    """Find the files in `folder` or its subfolder `inner` (torchvision's layout), else download them.

    Raises DatasetError when a file cannot be downloaded (the message names every missing file, its MD5 and
    the folder), or its MD5 differs.
    """
    missing = [file for file in files if _find(file, folder, inner) is None]
    try:
        for file in missing:
            _download(file, make_folder(folder))
    except OSError as error:
        wanted = ", ".join(f"{file.name} (MD5 {file.md5})" for file in missing)
        raise DatasetError(
            f"data set {dataset} is not in {folder} and could not be downloaded ({_reason(error)}). "
            f"Place there: {wanted}; or name another folder with --data-dir"
        ) from error
    found = [_find(file, folder, inner) or folder / file.name for file in files]
    for file, path in zip(files, found, strict=True):
        md5 = _md5(path)
        if md5 != file.md5:
            raise DatasetError(
                f"{path} is not the {file.name} of data set {dataset}: its MD5 is {md5}, "
                f"expected {file.md5}. Remove it and run again, or name another folder with --data-dir"
            )
    return found


def _find(file: PublishedFile, folder: Path, inner: str) -> Path | None:
    return next((path for path in (folder / file.name, folder / inner / file.name) if path.is_file()), None)


def _download(file: PublishedFile, folder: Path) -> None:
    import socket

    from torchvision.datasets.utils import download_url

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        download_url(file.url, str(folder), f"{file.name}.part")
    except RuntimeError as error:
        raise OSError(str(error)) from error
    finally:
        socket.setdefaulttimeout(before)
    (folder / f"{file.name}.part").replace(folder / file.name)


def _reason(error: OSError) -> str:
    return " ".join(str(getattr(error, "reason", None) or error.strerror or error).split())


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
