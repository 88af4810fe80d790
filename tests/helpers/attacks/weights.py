"""Malicious safetensors files, each made from a valid one, mostly of its length."""

import io
import json
import pickle
import struct
from collections.abc import Callable
from typing import Any

import torch
from attacks.models import Canary

Header = dict[str, Any]


def split_file(blob: bytes) -> tuple[Header, bytes]:
    (length,) = struct.unpack_from("<Q", blob)
    return json.loads(blob[8 : 8 + length]), blob[8 + length :]


def join_file(header: Header, numbers: bytes) -> bytes:
    content = json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + numbers


def _changed(change: Callable[[Header], None]) -> Callable[[bytes], bytes]:
    def make(honest: bytes) -> bytes:
        header, numbers = split_file(honest)
        change(header)
        return join_file(header, numbers)

    return make


def _as_long(make: Callable[[], bytes]) -> Callable[[bytes], bytes]:
    return lambda honest: make().ljust(len(honest), b"\0")


def _torch_save() -> bytes:
    content = io.BytesIO()
    torch.save({"0.0.weight": torch.zeros(3)}, content)
    return content.getvalue()


def _first(header: Header) -> dict[str, Any]:
    """The stem's convolution: 3x3 on one channel."""
    return header["0.0.weight"]  # type: ignore[no-any-return]


def _transposed(header: Header) -> None:
    _first(header)["shape"][:2] = reversed(_first(header)["shape"][:2])


def _renamed(header: Header) -> None:
    header["0.0.weights"] = header.pop("0.0.weight")


def _over_another(header: Header) -> None:
    """Two tensors of one size at one position."""
    header["0.1.bias"]["data_offsets"] = header["0.1.weight"]["data_offsets"]


def _other_values(honest: bytes) -> bytes:
    header, numbers = split_file(honest)
    begin, end = _first(header)["data_offsets"]
    return join_file(header, numbers[:begin] + bytes(end - begin) + numbers[end:])


def _deep(honest: bytes) -> bytes:
    content = b"[" * 100_000
    return struct.pack("<Q", len(content)) + content + split_file(honest)[1]


WEIGHTS: dict[str, Callable[[bytes], bytes]] = {
    "pickle named safetensors": _as_long(lambda: pickle.dumps(Canary())),
    "torch.save named safetensors": _as_long(_torch_save),
    "header of a terabyte": lambda honest: struct.pack("<Q", 1 << 40) + honest[8:],
    "header without end": _deep,
    "header with metadata": _changed(lambda header: header.update(__metadata__={"code": "import os"})),
    "wrong dtype": _changed(lambda header: _first(header).update(dtype="F64")),
    "shape of a terabyte": _changed(lambda header: _first(header).update(shape=[1 << 20, 1 << 20])),
    "transposed shape": _changed(_transposed),
    "tensor renamed": _changed(_renamed),
    "overlapping tensors": _changed(_over_another),
    "cut short, padded": lambda honest: honest[:-64] + b"{}" * 64,
    "other values": _other_values,
}
