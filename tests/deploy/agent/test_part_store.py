import errno
import hashlib
import os
from pathlib import Path

import pytest
from disk_events import disk_events

from jmsnas.deploy.agent.part_store import PartStore
from jmsnas.deploy.parts.manifest import Blob
from jmsnas.errors import PartError, StorageError

BLOB = Blob(hashlib.sha256(b"content").hexdigest(), 7)


def test_blob_is_kept_when_descriptors_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A flood of connections can exhaust the descriptors; blobs must not be deleted then.
    store = PartStore(tmp_path)
    store.receive(BLOB, [b"content"])

    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        with pytest.raises(PartError, match="a blob that cannot be read"):
            store.read(BLOB)
    assert store.read(BLOB) == b"content"


@pytest.mark.parametrize("changed", [b"Content", b"content!", b"conten", b""])
def test_a_blob_that_changed_on_disk_is_refused_and_deleted(tmp_path: Path, changed: bytes) -> None:
    store = PartStore(tmp_path)
    store.receive(BLOB, [b"con", b"tent"])
    (tmp_path / "blobs" / BLOB.sha256).write_bytes(changed)
    with pytest.raises(PartError, match="a blob that has changed on disk: send it again"):
        store.read(BLOB)
    assert store.missing([BLOB]) == [BLOB.sha256]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"epoch": null}', b'{"epoch": 1.5}', b"[" * 100_000])
def test_damaged_epoch_file_is_refused(tmp_path: Path, content: bytes) -> None:
    PartStore(tmp_path)
    (tmp_path / "epoch.json").write_bytes(content)
    with pytest.raises(StorageError, match="epoch.json is damaged: .*Delete the agent's whole store"):
        PartStore(tmp_path)


def test_files_with_other_names_are_ignored(tmp_path: Path) -> None:
    store = PartStore(tmp_path)
    store.accept(3, b"manifest", bytes(64))
    for name in ("\u00b2.plan", "03.plan", "x.plan", "9" * 30 + ".plan"):
        (tmp_path / "plans" / name).write_bytes(b"x")
    assert list(PartStore(tmp_path).plans()) == [(3, b"manifest", bytes(64))]


def test_a_blob_is_on_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, events = PartStore(tmp_path), disk_events(monkeypatch)
    store.receive(BLOB, [b"content"])
    synced, renamed = events
    assert (synced[0], renamed[0]) == ("fsync", "replace") and synced[1] == renamed[1]
