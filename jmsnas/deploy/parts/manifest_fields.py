"""The values of a manifest and how each is read from JSON: of the right kind, or not at all."""

import math
import re
from dataclasses import dataclass
from typing import Any

MAX_BLOB_BYTES = 1 << 30
WIRES = ("f4", "f2", "u1")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:]{2,45}\]):[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Blob:
    """Content by its SHA-256, and its size in bytes."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Hop:
    """Where an answer goes next.

    `wire` is the number format on that link, `branch` which of the tensors joined there this one is (0 where
    none are). A paced link takes at least `pace_delay_s + 8 b / pace_bps` seconds; not paced where that is 0.
    """

    name: str
    address: str
    wire: str = "f4"
    branch: int = 0
    pace_bps: float = 0.0
    pace_delay_s: float = 0.0


def _is(kind: type) -> Any:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError
        return value

    return check


def _float(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _tuple_of(kind: type) -> Any:
    return lambda value: tuple(_is(kind)(entry) for entry in _is(list)(value))


def read_blob(value: Any) -> Blob | None:
    """Read a blob, or None. Raises ValueError, TypeError."""
    if value is None:
        return None
    if set(_is(dict)(value)) != {"sha256", "size_bytes"}:
        raise ValueError
    blob = Blob(_is(str)(value["sha256"]), _is(int)(value["size_bytes"]))
    if not DIGEST.fullmatch(blob.sha256) or not 0 < blob.size_bytes <= MAX_BLOB_BYTES:
        raise ValueError
    return blob


def _hop(value: Any) -> Hop:
    if set(_is(dict)(value)) != set(Hop.__slots__):
        raise ValueError
    hop = Hop(
        _is(str)(value["name"]),
        _is(str)(value["address"]),
        _is(str)(value["wire"]),
        _is(int)(value["branch"]),
        _float(value["pace_bps"]),
        _float(value["pace_delay_s"]),
    )
    fine = NAME.fullmatch(hop.name) and _ADDRESS.fullmatch(hop.address) and hop.wire in WIRES
    if not fine or not 0 <= hop.branch < 64 or not (hop.pace_bps >= 0 and 0 <= hop.pace_delay_s < 3600):
        raise ValueError
    return hop


def _versions(value: Any) -> dict[str, str]:
    if len(_is(dict)(value)) > 16 or any(type(text) is not str or len(text) > 100 for text in value.values()):
        raise ValueError
    return dict(value)


FIELDS: dict[str, Any] = {
    **dict.fromkeys(("cluster", "device", "fingerprint", "layers"), _is(str)),
    **dict.fromkeys(("runtime", "processor", "layout"), _is(str)),
    **dict.fromkeys(("epoch", "opset", "threads", "peak_bytes", "joined"), _is(int)),
    **dict.fromkeys(("model", "golden"), read_blob),
    **dict.fromkeys(("input_shape", "output_shape"), _tuple_of(int)),
    **dict.fromkeys(("ops", "sources", "blocks"), _tuple_of(str)),
    "hops": lambda value: tuple(_hop(entry) for entry in _is(list)(value)),
    "hold_s": _float,
    "versions": _versions,
}
