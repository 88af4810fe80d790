"""A full, read-only or deleted store of an agent: cause and remedy in one line, and the agent goes on."""

import errno
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from deployments import Fleet, fleet, images, pieces, segments
from prove.faults import Faults, inject

from jmsnas.deploy.agent.part_store import PartStore
from jmsnas.deploy.parts.manifest import Blob
from jmsnas.errors import DeployError, StorageError

ALONE = pieces((6,), ("pi4",))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("store"), ("pi4",)) as found:
        yield found


def store_of(one: Fleet) -> Path:
    return one.folder / "agents" / "pi4"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some disk space"),
        (errno.EDQUOT, "free some disk space"),
        (errno.EROFS, "make its folder writable, or start its agent with another --store"),
        (errno.EACCES, "make its folder writable, or start its agent with another --store"),
        (errno.EMFILE, "let other programs close files"),
    ],
)
def test_any_failing_file_call_is_named_with_its_remedy(tmp_path: Path, number: int, remedy: str) -> None:
    line = (
        f"its store cannot be used: {os.strerror(number)}. On the device, {remedy}, then run the same command"
    )
    store, failed = PartStore(tmp_path), 0
    for at in itertools.count(1):
        content = at.to_bytes(4)
        blob = Blob(hashlib.sha256(content).hexdigest(), len(content))
        with pytest.MonkeyPatch.context() as patched:
            inject(patched, tmp_path, faults := Faults(at, number))
            try:
                store.accept(at, b"manifest", bytes(64))
                store.receive(blob, [content])
                store.delete_unused([blob])
            except StorageError as error:
                failed += 1
                assert line in str(error) and "/" not in str(error)
        # What failed works when the cause is gone, and a new process finds it.
        store.accept(at, b"manifest", bytes(64))
        store.receive(blob, [content])
        store.delete_unused([blob])
        assert store.read(blob) == content
        assert PartStore(tmp_path).newest == store.newest == (at, b"manifest", bytes(64))
        if faults.met < at:
            break
    assert failed >= 8


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_the_leader_shows_the_cause_and_serves_when_it_is_gone(
    one: Fleet, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    one.leader.ship(ALONE, segments())
    (x,) = images(1)
    before = one.leader.infer(x)
    with monkeypatch.context() as patched:
        inject(patched, store_of(one), Faults(1, number, full=True))
        line = rf"^device pi4: its store cannot be used: {os.strerror(number)}\. On the device, [a-z ,-]+"
        line += r", then run the same command again \(Offer, FAILED_PRECONDITION\)$"
        with pytest.raises(DeployError, match=line):
            one.leader.ship(ALONE, segments())
        assert one.leader.infer(x).epoch == before.epoch
    one.leader.ship(ALONE, segments())
    assert one.leader.infer(x).epoch > before.epoch


@pytest.mark.parametrize("what", [".", "blobs", "plans", "epoch.json"])
def test_a_deleted_store_is_made_again(one: Fleet, what: str) -> None:
    one.leader.ship(ALONE, segments())
    (x,) = images(1)
    before = one.leader.infer(x)
    path = store_of(one) / what
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    # The plan is in memory, and newer ones are accepted; older ones are still refused.
    np.testing.assert_array_equal(one.leader.infer(x).logits, before.logits)
    assert one.leader.describe()["pi4"].epoch == before.epoch
    one.leader.ship(ALONE, segments())
    after = one.leader.infer(x)
    assert after.epoch == before.epoch + 1
    np.testing.assert_array_equal(after.logits, before.logits)
    assert PartStore(store_of(one)).epoch == after.epoch
    for folder in (store_of(one), store_of(one) / "blobs", store_of(one) / "plans"):
        assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_an_agent_does_not_start_without_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    inject(monkeypatch, tmp_path, Faults(1, number))
    with pytest.raises(
        StorageError, match=f"{tmp_path}/store cannot be used: {os.strerror(number)}. On the device"
    ):
        PartStore(tmp_path / "store")
