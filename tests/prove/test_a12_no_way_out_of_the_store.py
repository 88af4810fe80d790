"""A12: no name from outside (path traversal, symbolic link) leads out of the agent's store."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployments import Fleet, fleet, pieces, segments
from prove.proof import Proof

from jmsnas.deploy.agent.part_store import PartStore
from jmsnas.deploy.parts.manifest import Blob
from jmsnas.errors import DeployError, DeviceError, PartError
from jmsnas.workspace import check_name

_BASES = (
    "../x", "..", "/etc/passwd", "a/../../x", "a\0b", "CON", "x" * 4096, "\u2024\u2024/x", "\uff0e\uff0e/x",
    "~", "$HOME", "%2e%2e%2f", "..\\x", "C:\\x", "\u202ex", "", " ", ".", "-rf", "x\n../y",
)  # fmt: skip


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet") / "inner", ("pi4",)) as found:
        found.leader.ship(pieces((6,), ("pi4",)), segments())
        yield found


def digest_of(folder: Path) -> str:
    """Return the digest of a folder's names and contents."""
    lines = [f"{path} {path.stat().st_size}" for path in sorted(folder.rglob("*"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def names(count: int) -> Iterator[str]:
    rng = random.Random(12)
    for _ in range(count):
        name = rng.choice(_BASES)
        made = rng.choice(("", "/", "../", "a")) + name + rng.choice(("", "/..", "\0", ".part"))
        yield f"../{made}" if made in ("a", "a-rf") else made  # without `../` these two are valid names


def test_names_that_lead_elsewhere(one: Fleet, proof: Proof) -> None:
    count, outside = proof.count(150, prove=500, long=100_000), one.folder.parent
    before = digest_of(outside)
    for name in names(count):
        with pytest.raises(DeployError, match="device pi4:|INVALID|NOT_FOUND"):
            one.leader.clients["pi4"].put(name, b"x")
        with pytest.raises(DeviceError):
            check_name(name)
    assert digest_of(outside) == before
    proof.show(f"{count} names: nothing in or outside the store has changed")


def test_a_link_in_the_store_is_not_followed(tmp_path: Path, proof: Proof) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"outside")
    blob = Blob(hashlib.sha256(b"outside").hexdigest(), 7)
    store = PartStore(tmp_path / "store")
    (tmp_path / "store" / "blobs" / blob.sha256).symlink_to(secret)
    with pytest.raises(PartError, match="a blob that cannot be read"):
        store.read(blob)
    (tmp_path / "store" / "blobs" / blob.sha256).symlink_to(secret)
    store.receive(blob, [b"outside"])
    assert store.read(blob) == secret.read_bytes() == b"outside"
    assert not (tmp_path / "store" / "blobs" / blob.sha256).is_symlink()
    proof.show("a symbolic link in the store: not read through, not written through")
