"""A11: tampered, unsigned, replayed, misaddressed and foreign parts are refused; the old part keeps serving.

Every attack is a file in `tests/helpers/attacks/`: the change to a valid part, and the expected error.
"""

import itertools
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attacks.models import MODELS
from attacks.weights import WEIGHTS
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deployments import Fleet, exported, fleet, images, pieces, segments
from msgspec import structs
from prove.proof import Proof

from jmsnas.deploy.parts.manifest import MAX_BYTES, Blob, manifest_bytes
from jmsnas.deploy.parts.shipment import Shipment, make_shipments
from jmsnas.deploy.transport.identity import read_signing_key
from jmsnas.errors import DeployError
from jmsnas.profiler.table.latency_table import RuntimeKey

ATTACKS = sorted((Path(__file__).parents[1] / "helpers" / "attacks").glob("*.json"))
FILES = MODELS | WEIGHTS
SEEDS = itertools.count(1)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet"), ("pi4",)) as found:
        for _ in range(3):  # so that there are plans to replay
            found.leader.ship(pieces((6,), ("pi4",)), segments())
        yield found


def honest(one: Fleet, epoch: int, seed: int = 0, runtime: str = "onnxruntime") -> Shipment:
    leader = one.leader
    alone = tuple(replace(piece, key=RuntimeKey(runtime)) for piece in pieces((6,), ("pi4",)))
    made = make_shipments(
        alone, segments(1), leader.agents, leader._cluster, leader._fingerprint, epoch, seed=seed
    )
    return made["pi4"]


def send(one: Fleet, content: bytes, signature: bytes, blobs: dict[str, bytes], epoch: int) -> None:
    peer = one.leader.clients["pi4"]
    for digest in peer.offer(content, signature):
        peer.put(digest, blobs[digest])
    peer.stage(epoch)


def attack(one: Fleet, file: dict[str, Any]) -> None:
    """Send a valid part with the file's changes."""
    import hashlib

    epoch = one.agents["pi4"].parts.newest()[0] + file.get("epoch_ahead", 1)
    # Another golden input each time: a blob that the agent has would not be sent.
    shipment = honest(one, epoch, seed=next(SEEDS), runtime=file.get("runtime", "onnxruntime"))
    manifest, blobs = shipment.manifest, dict(shipment.blobs)
    assert manifest.model is not None
    if "model" in file:
        model = FILES[file["model"]](blobs[manifest.model.sha256])
        digest = hashlib.sha256(model).hexdigest()
        blobs[digest] = model
        manifest = structs.replace(manifest, model=Blob(digest, len(model)))
    document = json.loads(manifest_bytes(manifest))
    document |= file.get("manifest", {})
    content = json.dumps(document).encode() + b" " * file.get("padding", 0)
    key = (
        Ed25519PrivateKey.generate()
        if file.get("signed_by") == "another"
        else read_signing_key(one.folder / "certs" / "leader")
    )
    signature = bytes(64) if file.get("signed_by") == "nobody" else key.sign(content)
    if file.get("blob") == "another":
        blobs = {digest: bytes(len(blob)) for digest, blob in blobs.items()}
    if file.get("blob") == "longer":
        blobs = {digest: blob + b"x" for digest, blob in blobs.items()}
    if file.get("blob") == "shorter":
        blobs = {digest: blob[:-1] for digest, blob in blobs.items()}
    send(one, content, signature, blobs, epoch)


@pytest.mark.parametrize("path", ATTACKS, ids=lambda path: path.stem)
def test_attack(one: Fleet, proof: Proof, path: Path) -> None:
    file, (x,) = json.loads(path.read_text()), images(1)
    before = one.leader.infer(x).logits.tobytes()
    with pytest.raises(DeployError, match=file["refused"]):
        attack(one, file)
    assert one.leader.infer(x).logits.tobytes() == before
    proof.show("attack refused, the old part keeps serving")


def test_every_kind_is_there() -> None:
    assert len(ATTACKS) >= 25
    assert {file.get("model") for file in map(json.loads, (p.read_text() for p in ATTACKS))} >= set(FILES)


def test_flipped_bytes_of_a_manifest(one: Fleet, proof: Proof) -> None:
    content = manifest_bytes(honest(one, one.leader.epoch + 1).manifest)
    signature = read_signing_key(one.folder / "certs" / "leader").sign(content)
    parts, epoch = one.agents["pi4"].parts, one.agents["pi4"].parts.newest()[0]
    rng, count = random.Random(11), proof.count(len(content), prove=8 * len(content), long=100 * len(content))
    from jmsnas.errors import PartError

    for n in range(count):
        flipped = bytearray(content)
        flipped[n % len(content)] ^= 1 << rng.randrange(8)
        with pytest.raises(PartError, match="did not sign"):
            parts.offer(bytes(flipped), signature)
    assert parts.newest()[0] == epoch and len(content) < MAX_BYTES
    proof.show(f"{count} flipped bits, each byte of a manifest: 0 accepted")


def test_mutated_models_end_no_process(proof: Proof) -> None:
    """Mutated models, which no leader would sign, do not end the process in which parts are checked."""
    honest, count = exported().onnx_part(1, 6), proof.count(100, prove=2000, long=1_000_000)
    assert honest is not None
    run = subprocess.run(
        [sys.executable, "-m", "prove.mutated_models", "11", str(count)],
        cwd=Path(__file__).parents[1],
        input=honest,
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr[-500:]
    found = json.loads(run.stdout)
    assert sum(found.values()) == count
    words = ", ".join(f"{number} {what}" for what, number in sorted(found.items()))
    proof.show(f"{count} mutated ONNX files in a process of 1 GB: {words}, 0 crashes")
