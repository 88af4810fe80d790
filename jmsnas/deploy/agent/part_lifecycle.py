"""The parts of an agent: offered, received, checked, serving; each under the epoch of its plan."""

import threading
from collections.abc import Iterable, Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jmsnas.deploy.agent.part_sandbox import PartSandbox
from jmsnas.deploy.agent.part_store import KEPT_PLANS, PartStore
from jmsnas.deploy.parts.manifest import Manifest, verify_blob_list, verify_manifest
from jmsnas.deploy.parts.manifest_fields import Blob
from jmsnas.deploy.parts.runtime import PartRunner, require_torch
from jmsnas.errors import PartError


class AgentParts:
    """Every plan this device knows: `offer`, `receive`, `stage`; then requests of its epoch are run."""

    def __init__(self, device: str, fingerprint: str, leader: Ed25519PublicKey, store: PartStore) -> None:
        self._device, self._fingerprint, self._leader = device, fingerprint, leader
        self._store = store
        self._lock = threading.Lock()
        self._offered: dict[int, tuple[Manifest, bytes]] = {}
        self._serving: dict[int, PartRunner] = {}
        self._checked: set[tuple[object, ...]] = set()
        self._checker: PartSandbox | None = None
        self._allowed: list[Blob] = []

    @property
    def epoch(self) -> int:
        """Number of the newest plan that was accepted."""
        return self._store.epoch

    def newest(self) -> tuple[int, bytes, bytes]:
        """Give that plan, its manifest and signature: the leader believes no number that it did not sign."""
        with self._lock:
            return next(self._store.plans(), (0, b"", b""))

    @property
    def serving(self) -> tuple[int, ...]:
        """Plans whose requests are run, oldest first."""
        return tuple(sorted(self._serving))

    def reload(self) -> Iterator[str]:
        """Take up the plans on disk, as far as their blobs are whole; what is wrong with one is told."""
        for epoch, content, signature in list(self._store.plans())[:KEPT_PLANS]:
            try:
                self._offered[epoch] = verify_manifest(content, signature, self._leader), content
                self.stage(epoch)
            except PartError as error:
                yield f"plan {epoch} is not served: {error}"

    def offer(self, content: bytes, signature: bytes) -> list[str]:
        """Accept a plan: size, signature, for whom, epoch, in this order; say which blobs are missing.

        Raises
        ------
        PartError
            When any of them is wrong; what serves goes on.
        """
        manifest = verify_manifest(content, signature, self._leader)
        if (manifest.device, manifest.fingerprint) != (self._device, self._fingerprint):
            raise PartError(f"a part for device {manifest.device}, or for another certificate of it")
        require_torch(manifest)
        with self._lock:
            self._store.accept(manifest.epoch, content, signature)
            newest = sorted([*self._offered, manifest.epoch])[-KEPT_PLANS:]
            self._offered = {n: held for n, held in self._offered.items() if n in newest}
            self._offered[manifest.epoch] = manifest, content
            if manifest.model and _what_is_checked(manifest) not in self._checked:
                self._checker = self._checker or PartSandbox()
        return self._store.missing(_blobs(manifest))

    def receive(self, sha256: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Take a blob that an accepted plan names. Raises PartError."""
        with self._lock:
            known = [blob for manifest, _ in self._offered.values() for blob in _blobs(manifest)]
            known += self._allowed
        for blob in known:
            if blob.sha256 == sha256:
                self._store.receive(blob, pieces)
                return
        raise PartError("a blob that no accepted plan names: offer the plan first")

    def allow(self, content: bytes, signature: bytes) -> list[str]:
        """Accept a signed list of blocks to be timed, and say which are missing. Raises PartError."""
        blobs = verify_blob_list(content, signature, self._leader)
        with self._lock:
            self._allowed = blobs
        return self._store.missing(blobs)

    def block(self, sha256: str) -> bytes:
        """Read a block of the list. Raises PartError."""
        for blob in self._allowed:
            if blob.sha256 == sha256:
                return self._store.read(blob)
        raise PartError("a block that is not on the leader's list")

    def stage(self, epoch: int) -> float:
        """Check a plan's part in a child process, make it ready, and give its error on the golden input.

        Raises
        ------
        PartError
            When there is no such plan, a blob is missing or changed, or the part does not run as signed.
        """
        with self._lock:
            if epoch not in self._offered:
                raise PartError(f"plan {epoch} was not offered")
            manifest, content = self._offered[epoch]
            if epoch in self._serving:
                return 0.0
        error, model = 0.0, None
        if manifest.model and manifest.golden:
            model, golden = self._store.read(manifest.model), self._store.read(manifest.golden)
            # A part that was checked for a plan before needs no second look.
            if (checked := _what_is_checked(manifest)) not in self._checked:
                error = self._take_checker().check(content, model, golden, manifest.runtime)
                self._checked.add(checked)
        runner = PartRunner(manifest, model)
        with self._lock:
            self._serving[epoch] = runner
        return error

    def _take_checker(self) -> PartSandbox:
        with self._lock:
            checker, self._checker = self._checker or PartSandbox(), None
        return checker

    def close(self) -> None:
        """End the process that waits to check."""
        with self._lock:
            if self._checker:
                self._checker.end()
            self._checker = None

    def retire(self, below: int) -> None:
        """End the plans older than `below`, and delete blobs that no kept plan names."""
        with self._lock:
            self._serving = {epoch: runner for epoch, runner in self._serving.items() if epoch >= below}
            kept = [blob for manifest, _ in self._offered.values() for blob in _blobs(manifest)]
            kept += self._allowed
            self._store.forget(kept)

    def find(self, epoch: int) -> PartRunner | None:
        """Give the part that serves a plan; None where none does."""
        return self._serving.get(epoch)


def _what_is_checked(manifest: Manifest) -> tuple[object, ...]:
    shapes = manifest.input_shape, manifest.output_shape
    how = manifest.runtime, manifest.processor, manifest.layout, manifest.blocks, manifest.threads
    return manifest.model, manifest.golden, *shapes, manifest.opset, manifest.ops, *how


def _blobs(manifest: Manifest) -> tuple[Blob, ...]:
    return tuple(blob for blob in (manifest.model, manifest.golden) if blob is not None)
