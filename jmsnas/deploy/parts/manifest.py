"""A part's manifest: a small signed JSON document that refers to files by their SHA-256. No archive, no code.

An agent checks, in this order: size, signature, fields, epoch, digests, a first parse in a child process, the
output for the golden input; only then it serves requests (docs/deploy.md).
"""

import math
import re
from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jmsnas.deploy.parts.torch_architecture import (
    MAX_FILE_BYTES,
    MAX_WEIGHTS_HEADER_BYTES,
    parse_architecture,
)
from jmsnas.deploy.transport.frame import WireDtype
from jmsnas.deploy.transport.run_response import MAX_SPANS
from jmsnas.deploy.transport.strict_json import decode_json
from jmsnas.errors import PartError
from jmsnas.profiler.table.latency_table import LAYOUTS, PROCESSORS

SCHEMA_VERSION = 2
MAX_BYTES, MAX_LIST_BYTES = 64 << 10, 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:]{2,45}\]):[0-9]{1,5}")
_OPERATOR = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")


class Blob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reference to a file by its SHA-256, and its size in bytes. Raises PartError where either is invalid."""

    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        """Check the digest and the size."""
        _require(DIGEST.fullmatch(self.sha256), "digest")
        _require(0 < self.size_bytes <= MAX_FILE_BYTES, "file size")


class Hop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device that the output of a part is sent to. Raises PartError where a field is invalid.

    Attributes
    ----------
    name, address, fingerprint
        The device, HOST:PORT of its data port, and the fingerprint that its certificate must have.
    wire
        Number format on the link.
    branch
        Index of this tensor among those that are summed there; 0 where none are.
    pace_bps, pace_delay_s
        A paced link takes at least `pace_delay_s + 8 b / pace_bps` seconds for b bytes; `pace_bps` is 0 where
        it is not paced.
    trail
        Names of the devices that its response lists, its own first.
    wait_s
        Seconds until it is sent to, while the copies of a serial fan-out before it are sent.
    """

    name: str
    address: str
    fingerprint: str
    wire: WireDtype
    branch: int
    pace_bps: float
    pace_delay_s: float
    trail: tuple[str, ...]
    wait_s: float = 0.0

    def __post_init__(self) -> None:
        """Check every field."""
        _require(_NAME.fullmatch(self.name), "hop name")
        _require(_ADDRESS.fullmatch(self.address), "hop address")
        _require(DIGEST.fullmatch(self.fingerprint), "hop fingerprint")
        _require(0 <= self.branch < 64, "hop branch")
        _require(0 <= self.pace_bps < math.inf and 0 <= self.pace_delay_s < 3600, "hop pace")
        _require(0 <= self.wait_s < 3600, "hop wait")
        names = len(self.trail) <= MAX_SPANS and all(_NAME.fullmatch(name) for name in self.trail)
        _require(names and self.trail[:1] == (self.name,), "hop trail")


class Manifest(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="schema",
    tag=SCHEMA_VERSION,
):
    """Description of a device's part: its files, shapes, runtime, senders and next hops.

    Attributes
    ----------
    cluster, device, fingerprint
        Digest of the leader's signing key, the device, and the SHA-256 of the device's public key.
    epoch
        Number of the plan; numbers only rise.
    layers
        First and last layer, as text; empty for a device that only forwards.
    runtime, processor, layout
        `onnxruntime` or `torch`; `cpu` or `cuda`; memory format of the activations (the last two for torch).
    blocks
        Architecture of a torch part: each block as `str(block)`, in execution order.
    model, golden
        The ONNX file, or the safetensors file of a torch part; a test input followed by the leader's output
        for it, float32. Both None where there is no layer.
    input_shape, output_shape
        Of one call, batch first.
    opset, ops
        Opset and operators of the ONNX file, as the leader found them.
    threads, peak_bytes
        Threads of the runtime, and the memory it may use.
    joined
        Number of tensors that are summed at the input; 0 where there is one.
    sources
        Fingerprints of the devices that may send data; where tensors are summed, the one at index n sends
        tensor n and no other.
    response_shape
        Shape of the response to a request: the output of the plan, batch first.
    hops
        Where the output goes; empty on the last device.
    hold_s
        Least time of one call on an emulated device; 0 where it is not emulated.
    versions
        Versions of the packages that made the part, for information.

    Raises
    ------
    PartError
        When a field is out of range, or the size of the weights is not the one that the blocks need.
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
    response_shape: tuple[int, ...]
    hops: tuple[Hop, ...]
    hold_s: float
    versions: dict[str, str]

    def __post_init__(self) -> None:
        """Check every field."""
        for valid, field in (
            (DIGEST.fullmatch(self.cluster), "cluster"),
            (_NAME.fullmatch(self.device), "device"),
            (DIGEST.fullmatch(self.fingerprint), "fingerprint"),
            (1 <= self.epoch < 1 << 53, "epoch"),
            (len(self.layers) <= 200, "layers"),
            (_runtime_valid(self), "runtime"),
            ((self.model is None) == (self.golden is None), "golden"),
            (all(map(_shape_valid, (self.input_shape, self.output_shape, self.response_shape))), "shape"),
            (0 <= self.opset < 1000, "opset"),
            (len(self.ops) <= 64 and all(_OPERATOR.fullmatch(op) for op in self.ops), "ops"),
            (1 <= self.threads <= 1024, "threads"),
            (0 <= self.peak_bytes < 1 << 40, "peak_bytes"),
            (self.joined == 0 or 2 <= self.joined <= 64, "joined"),
            (_sources_valid(self), "sources"),
            (len(self.hops) <= 64 and len({hop.name for hop in self.hops}) == len(self.hops), "hops"),
            (0 <= self.hold_s < 3600, "hold_s"),
            (len(self.versions) <= 16 and all(len(v) <= 100 for v in self.versions.values()), "versions"),
        ):
            _require(valid, field)
        if self.blocks and self.model:
            known = parse_architecture(self.blocks, self.input_shape, self.output_shape)
            if not 0 <= self.model.size_bytes - known.weights_bytes <= 8 + MAX_WEIGHTS_HEADER_BYTES:
                raise PartError(
                    f"a torch part with a file of {self.model.size_bytes} bytes: the weights of its blocks "
                    f"take {known.weights_bytes}"
                )


class _BlobList(msgspec.Struct, forbid_unknown_fields=True, tag_field="schema", tag=1):
    blobs: list[tuple[str, int]]


class _Versioned(msgspec.Struct):
    """The fields that a manifest of any schema has."""

    epoch: int
    schema: msgspec.Raw = msgspec.Raw()


def manifest_bytes(manifest: Manifest) -> bytes:
    """Encode a manifest as JSON with sorted keys. Raises PartError when it is larger than 64 KiB."""
    content = msgspec.json.encode(manifest, order="sorted")
    _check_size(content, MAX_BYTES)
    return content


def verify_manifest(content: bytes, signature: bytes, key: Ed25519PublicKey) -> Manifest:
    """Check the size, the signature and every field of a manifest, in this order. Raises PartError."""
    _check_size(content, MAX_BYTES)
    _check_signature(content, signature, key)
    return parse_manifest(content)


def signed_epoch(content: bytes, signature: bytes, key: Ed25519PublicKey) -> int:
    """Read the epoch of a manifest of any schema version that `key` signed. Raises PartError."""
    _check_signature(content, signature, key)
    return decode_json(content, _Versioned, PartError, "a manifest").epoch


def blob_list_bytes(blobs: Sequence[Blob]) -> bytes:
    """Encode a list of blobs, to be signed: blocks that an agent shall time."""
    return msgspec.json.encode(_BlobList([(blob.sha256, blob.size_bytes) for blob in blobs]))


def verify_blob_list(content: bytes, signature: bytes, key: Ed25519PublicKey) -> list[Blob]:
    """Read a list of blobs that `key` signed. Raises PartError."""
    _check_size(content, MAX_LIST_BYTES)
    _check_signature(content, signature, key)
    return [Blob(*pair) for pair in decode_json(content, _BlobList, PartError, "a list of blocks").blobs]


def parse_manifest(content: bytes) -> Manifest:
    """Decode a manifest whose signature was verified, and check every field. Raises PartError."""
    if bytes(decode_json(content, _Versioned, PartError, "a manifest").schema) != b"%d" % SCHEMA_VERSION:
        raise PartError(f"a manifest of another schema: this version reads {SCHEMA_VERSION}, update jmsnas")
    return decode_json(content, Manifest, PartError, "a manifest")


def _check_size(content: bytes, most: int) -> None:
    if len(content) > most:
        raise PartError(f"a signed document of {len(content)} bytes: expected at most {most}")


def _check_signature(content: bytes, signature: bytes, key: Ed25519PublicKey) -> None:
    try:
        key.verify(signature, content)
    except InvalidSignature:
        raise PartError("a document that the leader did not sign: send it from the leader") from None


def _require(valid: object, field: str) -> None:
    if not valid:
        raise PartError(f"a signed document with an invalid value of {field}: send it again from the leader")


def _runtime_valid(manifest: Manifest) -> bool:
    if manifest.runtime == "torch":
        known = manifest.processor in PROCESSORS and manifest.layout in LAYOUTS
        no_onnx = not manifest.opset and not manifest.ops
        return known and no_onnx and (manifest.model is None) == (not manifest.blocks)
    usual = (manifest.processor, manifest.layout) == ("cpu", "contiguous")
    return manifest.runtime == "onnxruntime" and usual and not manifest.blocks


def _sources_valid(manifest: Manifest) -> bool:
    sources = manifest.sources
    known = len(sources) <= 64 and all(DIGEST.fullmatch(pin) for pin in sources)
    return known and (not manifest.joined or len({*sources}) == len(sources) == manifest.joined)


def _shape_valid(shape: tuple[int, ...]) -> bool:
    return len(shape) <= 6 and all(1 <= size < 1 << 24 for size in shape) and math.prod(shape) < 1 << 30
