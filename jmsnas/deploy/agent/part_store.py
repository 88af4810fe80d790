"""Files that an agent keeps on disk: blobs by SHA-256, accepted plans, and the highest epoch.

A name from outside never becomes a path: file names are 64 checked hexadecimal digits, or a number.
"""

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from jmsnas.deploy.parts.manifest import DIGEST, MAX_BYTES, Blob
from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import PartError, StorageError
from jmsnas.files import write_atomic

# Manifests that are kept: of the plan that serves, and of the one before, while its requests are in flight.
KEPT_PLANS = 2
_PLAN = re.compile(r"[1-9][0-9]{0,15}")


class _EpochFile(msgspec.Struct):
    epoch: int


@contextmanager
def _store_errors(store: str = "its store") -> Iterator[None]:
    """Raise a failed file operation as StorageError: cause and remedy, without a path unless given."""
    try:
        yield
    except (OSError, StorageError) as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error
        if not isinstance(cause, OSError):
            raise
        reason = os.strerror(cause.errno) if cause.errno else type(cause).__name__
        remedy = "make its folder writable, or start its agent with another --store"
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some disk space"
        elif cause.errno in (errno.EMFILE, errno.ENFILE):
            remedy = "let other programs close files"
        raise StorageError(
            f"{store} cannot be used: {reason}. On the device, {remedy}, then run the same command again"
        ) from error


class PartStore:
    """The folder of one agent, readable by its user only; created again when it was deleted."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._blobs, self._plans = folder, folder / "blobs", folder / "plans"
        self._epoch_file = folder / "epoch.json"
        with _store_errors(str(folder)):
            self._make_folders()
            for left_over in self._blobs.glob(".*.part"):
                left_over.unlink()
        self.epoch = self._read_epoch()
        with _store_errors(str(folder)):
            # In memory, so that the leader learns the epoch from an agent whose store was deleted.
            self.newest = next(self.plans(), (0, b"", b""))

    def _make_folders(self) -> None:
        for folder in (self._folder, self._blobs, self._plans):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _read_epoch(self) -> int:
        try:
            return decode_json(self._epoch_file.read_bytes(), _EpochFile, StorageError, "the epoch").epoch
        except FileNotFoundError:
            return 0
        except (OSError, StorageError) as error:
            raise StorageError(
                f"{self._epoch_file} is damaged: without it an old plan could be replayed. Delete the "
                "agent's whole store, and ship again"
            ) from error

    def missing(self, blobs: Iterable[Blob]) -> list[str]:
        """Return the digests of the blobs that are not stored yet."""
        return [blob.sha256 for blob in blobs if not self._path(blob.sha256).is_file()]

    def receive(self, blob: Blob, chunks: Iterable[bytes | memoryview]) -> None:
        """Store a blob: at most its size is written, and it is kept only if its digest is right.

        Raises PartError for another size or digest, and StorageError when it cannot be written.
        """
        path = self._path(blob.sha256)
        temporary = path.with_name(f".{blob.sha256}.{os.getpid()}.{id(chunks)}.part")
        digest, size = hashlib.sha256(), 0
        with _store_errors():
            self._make_folders()
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
                with open(os.open(temporary, flags, 0o600), "wb") as file:
                    for chunk in chunks:
                        size += len(chunk)
                        if size > blob.size_bytes:
                            raise PartError(
                                f"a blob longer than the {blob.size_bytes} bytes that were signed"
                            )
                        digest.update(chunk)
                        file.write(chunk)
                    if size != blob.size_bytes or digest.hexdigest() != blob.sha256:
                        raise PartError("a blob that is not the one that was signed: send it again")
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            finally:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)

    def read(self, blob: Blob) -> bytes:
        """Read a blob, and check its digest again. Raises PartError, and deletes it, when it has changed."""
        path = self._path(blob.sha256)
        try:
            with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
                content = file.read(blob.size_bytes + 1)
        except OSError as error:
            if error.errno == errno.ELOOP:  # a symbolic link; other errors, such as EMFILE, may be transient
                path.unlink(missing_ok=True)
            raise PartError("a blob that cannot be read: send it again") from error
        if hashlib.sha256(content).hexdigest() != blob.sha256:
            with _store_errors():
                path.unlink(missing_ok=True)
            raise PartError("a blob that has changed on disk: send it again")
        return content

    def accept(self, epoch: int, manifest: bytes, signature: bytes) -> None:
        """Keep a plan, and refuse older ones from now on.

        Raises PartError when a newer plan was accepted before, or another one of the same number, and
        StorageError when it cannot be written.
        """
        if (epoch, manifest, signature) == self.newest:
            return
        if epoch <= self.epoch:
            raise PartError(
                f"plan {epoch} is not newer than plan {self.epoch} of this device: another leader uses it, "
                "or an old plan was replayed"
            )
        with _store_errors():
            self._make_folders()
            write_atomic(self._plans / f"{epoch}.plan", signature + manifest)
            write_atomic(self._epoch_file, msgspec.json.encode(_EpochFile(epoch)))
        self.epoch, self.newest = epoch, (epoch, manifest, signature)

    def plans(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield the plans that are kept, newest first: epoch, manifest, signature."""
        for epoch in self._epochs():
            with (self._plans / f"{epoch}.plan").open("rb") as file:
                content = file.read(MAX_BYTES + 65)
            yield epoch, content[64:], content[:64]

    def delete_unused(self, blobs: Iterable[Blob]) -> None:
        """Delete all plans but the newest two, and all blobs that are not in `blobs`."""
        wanted = {blob.sha256 for blob in blobs}
        with _store_errors():
            for epoch in self._epochs()[KEPT_PLANS:]:
                (self._plans / f"{epoch}.plan").unlink(missing_ok=True)
            for path in self._blobs.glob("*"):
                if path.name not in wanted and DIGEST.fullmatch(path.name):
                    path.unlink(missing_ok=True)

    def _epochs(self) -> list[int]:
        numbers = [int(path.stem) for path in self._plans.glob("*.plan") if _PLAN.fullmatch(path.stem)]
        return sorted((number for number in numbers if number <= self.epoch), reverse=True)

    def _path(self, sha256: str) -> Path:
        if not DIGEST.fullmatch(sha256):
            raise PartError("a blob whose name is not 64 hexadecimal digits")
        return self._blobs / sha256
