"""A part's manifest: a small signed JSON document that names blobs by their SHA-256. No archive, no code.

The order in which an agent believes it: size, signature, epoch, digests, a parse in a child process, the
golden input, and only then requests (docs/deploy.md).
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jmsnas.deploy.parts.manifest_fields import DIGEST, FIELDS, NAME, Blob, Hop, read_blob
from jmsnas.deploy.parts.torch_architecture import MAX_WEIGHTS_HEADER_BYTES, parse_architecture
from jmsnas.errors import PartError
from jmsnas.profiler.table.latency_table import LAYOUTS, PROCESSORS

SCHEMA_VERSION = 1
MAX_BYTES, MAX_LIST_BYTES = 64 << 10, 1 << 20
_OP = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a device must know to run its part.

    Attributes
    ----------
    cluster, device, fingerprint
        Whose network, for which device, and the SHA-256 of its public key.
    epoch
        Number of the plan, which only rises.
    layers
        First and last layer, in words; empty for a device that only passes on.
    runtime, processor, layout
        What runs it, `onnxruntime` or `torch`; where, `cpu` or `cuda`; how its activations lie in memory.
        The last two are for torch.
    blocks
        The architecture of a torch part: each block as `str` writes it, in the order they run.
    model, golden
        The ONNX file, or the safetensors file of a torch part; an input and the leader's output for it,
        float32, one behind the other. Both None where there is no layer.
    input_shape, output_shape
        Of one call, the batch first.
    opset, ops
        What the ONNX file needs, as the leader saw it.
    threads, peak_bytes
        How it is run, and the memory it may take.
    joined
        How many tensors are added up at its input; 0 where one comes alone.
    sources
        Fingerprints that may send data.
    hops
        Where the output goes; none on the last device.
    hold_s
        An emulated device answers no sooner than this; 0 where nothing is held.
    versions
        What made it, for the reader.
    """

    cluster: str
    device: str
    fingerprint: str
    epoch: int
    layers: str
    runtime: str
    processor: str
    layout: str
    blocks: tuple[str, ...]
    model: Blob | None
    golden: Blob | None
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    opset: int
    ops: tuple[str, ...]
    threads: int
    peak_bytes: int
    joined: int
    sources: tuple[str, ...]
    hops: tuple[Hop, ...]
    hold_s: float
    versions: dict[str, str]

    def __post_init__(self) -> None:
        """Refuse what no leader of ours would say."""
        for ok, what in (
            (DIGEST.fullmatch(self.cluster), "cluster"),
            (NAME.fullmatch(self.device), "device"),
            (DIGEST.fullmatch(self.fingerprint), "fingerprint"),
            (1 <= self.epoch < 1 << 53, "epoch"),
            (len(self.layers) <= 200, "layers"),
            (_runtime_ok(self), "runtime"),
            ((self.model is None) == (self.golden is None), "golden"),
            (all(_shape_ok(shape) for shape in (self.input_shape, self.output_shape)), "shape"),
            (0 <= self.opset < 1000, "opset"),
            (len(self.ops) <= 64 and all(_OP.fullmatch(op) for op in self.ops), "ops"),
            (1 <= self.threads <= 1024, "threads"),
            (0 <= self.peak_bytes < 1 << 40, "peak_bytes"),
            (self.joined == 0 or 2 <= self.joined <= 64, "joined"),
            (len(self.sources) <= 64 and all(DIGEST.fullmatch(pin) for pin in self.sources), "sources"),
            (len(self.hops) <= 64 and len({hop.name for hop in self.hops}) == len(self.hops), "hops"),
            (0 <= self.hold_s < 3600, "hold_s"),
        ):
            if not ok:
                raise PartError(f"a manifest whose {what} cannot be: send the part again from the leader")
        if self.blocks and self.model:
            known = parse_architecture(self.blocks, self.input_shape, self.output_shape)
            if not 0 <= self.model.size_bytes - known.weights_bytes <= 8 + MAX_WEIGHTS_HEADER_BYTES:
                raise PartError(
                    f"a torch part with a file of {self.model.size_bytes} bytes: the weights of its blocks "
                    f"take {known.weights_bytes}"
                )


def manifest_bytes(manifest: Manifest) -> bytes:
    """Write a manifest as canonical JSON. Raises PartError when it is larger than 64 KiB."""
    document = {"schema": SCHEMA_VERSION, **asdict(manifest)}
    content = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    if len(content) > MAX_BYTES:
        raise PartError(f"a manifest of {len(content)} bytes: expected at most {MAX_BYTES}")
    return content


def sign(content: bytes, key: Ed25519PrivateKey) -> bytes:
    """Sign a manifest's bytes: Ed25519, 64 bytes."""
    return key.sign(content)


def verify_manifest(content: bytes, signature: bytes, key: Ed25519PublicKey) -> Manifest:
    """Read a manifest that the holder of `key` signed: size, then signature, then every field.

    Raises
    ------
    PartError
        When it is too large, not signed by the leader, or has a field that cannot be.
    """
    if len(content) > MAX_BYTES:
        raise PartError(f"a manifest of {len(content)} bytes: expected at most {MAX_BYTES}")
    try:
        key.verify(signature, content)
    except InvalidSignature:
        raise PartError("a manifest that the leader did not sign: send it from the leader") from None
    return parse_manifest(content)


def signed_epoch(content: bytes, signature: bytes, key: Ed25519PublicKey) -> int:
    """Read the epoch of a manifest that the holder of `key` signed, of whatever schema. Raises PartError."""
    try:
        key.verify(signature, content)
        return int(json.loads(content)["epoch"])
    except (InvalidSignature, ValueError, TypeError, KeyError, RecursionError):
        raise PartError("a plan that the leader did not sign") from None


def blob_list_bytes(blobs: Sequence[Blob]) -> bytes:
    """Write a list of blobs, for `sign`: blocks that an agent is to time."""
    document = {"schema": SCHEMA_VERSION, "blobs": [[blob.sha256, blob.size_bytes] for blob in blobs]}
    return json.dumps(document, separators=(",", ":")).encode()


def verify_blob_list(content: bytes, signature: bytes, key: Ed25519PublicKey) -> list[Blob]:
    """Read a list of blobs that the holder of `key` signed. Raises PartError."""
    if len(content) > MAX_LIST_BYTES:
        raise PartError(f"a list of {len(content)} bytes: expected at most {MAX_LIST_BYTES}")
    try:
        key.verify(signature, content)
        pairs = json.loads(content)["blobs"]
        blobs = [read_blob({"sha256": digest, "size_bytes": size}) for digest, size in pairs]
    except InvalidSignature:
        raise PartError("a list that the leader did not sign: send it from the leader") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise PartError("a list with a value of the wrong kind: send it again") from None
    return [blob for blob in blobs if blob]


def parse_manifest(content: bytes) -> Manifest:
    """Read a manifest whose signature was verified, every field checked. Raises PartError."""
    try:
        document = json.loads(content, parse_constant=_no_constant)
        if not isinstance(document, dict) or set(document) != {"schema", *Manifest.__slots__}:
            raise PartError("a manifest with keys missing or unknown: update jmsnas on this device")
        schema = document.pop("schema")
        if schema != SCHEMA_VERSION or type(schema) is not int:
            raise PartError(
                f"a manifest of another schema: this version reads {SCHEMA_VERSION}, update jmsnas"
            )
        return Manifest(**{name: FIELDS[name](value) for name, value in document.items()})
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        raise PartError("a manifest with a value of the wrong kind: send the part again") from None


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def _runtime_ok(manifest: Manifest) -> bool:
    if manifest.runtime == "torch":
        known = manifest.processor in PROCESSORS and manifest.layout in LAYOUTS
        alone = not manifest.opset and not manifest.ops
        return known and alone and (manifest.model is None) == (not manifest.blocks)
    usual = (manifest.processor, manifest.layout) == ("cpu", "contiguous")
    return manifest.runtime == "onnxruntime" and usual and not manifest.blocks


def _shape_ok(shape: tuple[int, ...]) -> bool:
    return len(shape) <= 6 and all(1 <= size < 1 << 24 for size in shape) and math.prod(shape) < 1 << 30
