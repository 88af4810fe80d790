import random
import struct
import time

import pytest
import torch
from attacks.weights import WEIGHTS
from deployments import exported
from safetensors.torch import load, save

from jmsnas.deploy.parts.safetensors_scan import TensorEntry, scan_safetensors
from jmsnas.deploy.parts.torch_architecture import MAX_WEIGHTS_HEADER_BYTES
from jmsnas.errors import PartError


def honest() -> tuple[bytes, int]:
    blob = exported().weights_file(1, 6)
    assert blob is not None
    return blob, sum(tensor.nbytes for tensor in load(blob).values())


def test_entries_by_hand() -> None:
    blob = save({"a": torch.tensor([[1.0, 2.0]]), "n": torch.tensor(3)})
    (length,) = struct.unpack_from("<Q", blob)
    start = 8 + length
    # safetensors puts the widest numbers first: 8 bytes of n, then 2 x 4 of a.
    assert scan_safetensors(blob, 16) == {
        "n": TensorEntry("I64", (), start, start + 8),
        "a": TensorEntry("F32", (1, 2), start + 8, start + 16),
    }
    assert struct.unpack("<2f", blob[start + 8 : start + 16]) == (1.0, 2.0)


def test_scan_agrees_with_the_safetensors_package() -> None:
    blob, size = honest()
    tensors, entries = load(blob), scan_safetensors(blob, size)
    assert {n: p.shape for n, p in entries.items()} == {n: tuple(t.shape) for n, t in tensors.items()}
    for name, tensor in tensors.items():
        assert blob[entries[name].begin : entries[name].end] == tensor.numpy().tobytes()


# The headers of the others are valid; torch_runtime refuses them.
@pytest.mark.parametrize(
    "name", sorted(set(WEIGHTS) - {"transposed shape", "tensor renamed", "other values"})
)
def test_malicious_headers_are_refused(name: str) -> None:
    blob, size = honest()
    with pytest.raises(PartError, match="safetensors file"):
        scan_safetensors(WEIGHTS[name](blob), size)


@pytest.mark.parametrize(
    ("blob", "refused"),
    [
        (b"\x80\x04", "ends within its first number"),
        (
            struct.pack("<Q", MAX_WEIGHTS_HEADER_BYTES + 1) + bytes(2 * MAX_WEIGHTS_HEADER_BYTES),
            "its header exceeds its size, or",
        ),
        (struct.pack("<Q", 2) + b"[]", "the header of a safetensors file is not valid"),
        (struct.pack("<Q", 4) + b"null", "the header of a safetensors file is not valid"),
        (struct.pack("<Q", 2) + b"{}" + bytes(8), "8 bytes of values: its blocks have 0"),
    ],
)
def test_other_files_are_refused(blob: bytes, refused: str) -> None:
    with pytest.raises(PartError, match=refused):
        scan_safetensors(blob, 0)


def test_bytes_without_a_tensor() -> None:
    with pytest.raises(PartError, match="bytes that belong to no tensor"):
        scan_safetensors(struct.pack("<Q", 2) + b"{}" + bytes(8), 8)


def test_mutated_headers_raise_part_error() -> None:
    blob, size = honest()
    (length,) = struct.unpack_from("<Q", blob)
    seed = time.time_ns() % 2**32
    rng, refused = random.Random(seed), 0
    print("seed", seed)
    for _ in range(3000):
        changed = bytearray(blob)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(8 + length)
            changed[at : at + rng.randrange(1, 8)] = rng.choice(
                (b"9" * 30, b"-1", b"null", b"[", b"}", b'"a"', b"1e9", bytes([rng.randrange(256)]))
            )
        try:
            for entry in scan_safetensors(bytes(changed), size).values():
                assert 8 <= entry.begin <= entry.end <= len(changed)
        except PartError as error:
            refused += 1
            assert len(str(error)) < 200
    assert refused > 2000
