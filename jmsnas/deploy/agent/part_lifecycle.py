"""Lifecycle of the parts of an agent: offered, received, staged (checked), served, retired; by epoch."""

import threading
from collections.abc import Iterable, Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jmsnas.deploy.agent.part_sandbox import PartSandbox
from jmsnas.deploy.agent.part_store import KEPT_PLANS, PartStore
from jmsnas.deploy.parts.manifest import Blob, Manifest, verify_blob_list, verify_manifest
from jmsnas.deploy.parts.runtime import PartRunner, require_torch
from jmsnas.errors import PartError


class AgentParts:
    """The plans of a device: `offer`, `receive`, `stage`; then requests of that epoch are served."""

    def __init__(self, device: str, fingerprint: str, leader: Ed25519PublicKey, store: PartStore) -> None:
        self._device, self._fingerprint, self._leader = device, fingerprint, leader
        self._store = store
        self._lock = threading.Lock()
        self._offered: dict[int, tuple[Manifest, bytes]] = {}
        self._serving: dict[int, PartRunner] = {}
        self._checked: set[tuple[object, ...]] = set()
        self._sandbox: PartSandbox | None = None
        self._timed_blocks: list[Blob] = []

    def newest(self) -> tuple[int, bytes, bytes]:
        """Return the epoch, manifest and signature of the newest plan, so that the leader can verify them."""
        with self._lock:
            return self._store.newest

    @property
    def serving(self) -> tuple[int, ...]:
        """Epochs of the plans that are served, oldest first."""
        return tuple(sorted(self._serving))

    def reload(self) -> Iterator[str]:
        """Serve the plans on disk whose blobs are complete; yield a warning for each of the others."""
        for epoch, content, signature in list(self._store.plans())[:KEPT_PLANS]:
            try:
                self._offered[epoch] = (verify_manifest(content, signature, self._leader), content)
                self.stage(epoch)
            except PartError as error:
                yield f"plan {epoch} is not served: {error}"

    def offer(self, content: bytes, signature: bytes) -> list[str]:
        """Accept a plan after checking size, signature, device and epoch; return the digests it lacks.

        Raises PartError when a check fails; the plans that are served stay.
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
            if manifest.model and _checked_fields(manifest) not in self._checked:
                self._sandbox = self._sandbox or PartSandbox()
        return self._store.missing(_blobs(manifest))

    def receive(self, sha256: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Store a blob that an accepted plan names. Raises PartError."""
        with self._lock:
            known = self._kept_blobs()
        for blob in known:
            if blob.sha256 == sha256:
                self._store.receive(blob, chunks)
                return
        raise PartError("a blob that no accepted plan names: offer the plan first")

    def allow(self, content: bytes, signature: bytes) -> list[str]:
        """Accept a signed list of blocks to time; return the digests that are missing. Raises PartError."""
        blobs = verify_blob_list(content, signature, self._leader)
        with self._lock:
            self._timed_blocks = blobs
        return self._store.missing(blobs)

    def read_block(self, sha256: str) -> bytes:
        """Read a block of the signed list. Raises PartError."""
        for blob in self._timed_blocks:
            if blob.sha256 == sha256:
                return self._store.read(blob)
        raise PartError("a block that is not on the leader's list")

    def stage(self, epoch: int) -> float:
        """Check a plan's part in a child process and load it; return its error on the golden input.

        Raises PartError when there is no such plan, a blob is missing or changed, or the part does not run as
        signed.
        """
        with self._lock:
            if epoch not in self._offered:
                raise PartError(f"plan {epoch} was not offered")
            manifest, content = self._offered[epoch]
            if epoch in self._serving:
                return 0.0
        error, model = 0.0, None
        if manifest.model and manifest.golden:
            model, golden = (self._store.read(manifest.model), self._store.read(manifest.golden))
            # A part that was checked for an earlier plan is not checked again.
            if (checked := _checked_fields(manifest)) not in self._checked:
                error = self._take_sandbox().check(content, model, golden, manifest.runtime)
                self._checked.add(checked)
        runner = PartRunner(manifest, model)
        with self._lock:
            self._serving[epoch] = runner
        return error

    def _take_sandbox(self) -> PartSandbox:
        with self._lock:
            sandbox, self._sandbox = self._sandbox or PartSandbox(), None
        return sandbox

    def close(self) -> None:
        """End the child process that waits for a part."""
        with self._lock:
            if self._sandbox:
                self._sandbox.end()
            self._sandbox = None

    def retire(self, below: int) -> None:
        """Stop serving plans older than `below`, and delete blobs that no kept plan names."""
        with self._lock:
            self._serving = {epoch: runner for epoch, runner in self._serving.items() if epoch >= below}
            self._store.delete_unused(self._kept_blobs())

    def find(self, epoch: int) -> PartRunner | None:
        """Return the part that serves a plan, or None."""
        return self._serving.get(epoch)

    def _kept_blobs(self) -> list[Blob]:
        named = [blob for manifest, _ in self._offered.values() for blob in _blobs(manifest)]
        return named + self._timed_blocks


def _checked_fields(manifest: Manifest) -> tuple[object, ...]:
    """Return the fields on which the result of a check depends."""
    shapes = manifest.input_shape, manifest.output_shape
    options = (manifest.runtime, manifest.processor, manifest.layout, manifest.blocks, manifest.threads)
    return (manifest.model, manifest.golden, *shapes, manifest.opset, manifest.ops, *options)


def _blobs(manifest: Manifest) -> tuple[Blob, ...]:
    return tuple(blob for blob in (manifest.model, manifest.golden) if blob is not None)
