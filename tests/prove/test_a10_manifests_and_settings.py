"""A10: whatever is signed as a manifest, or stands in devices.toml, the one error is ours."""

import random
import time
from pathlib import Path

from deployments import exported
from prove.proof import Proof

from jmsnas.deploy.fleet import Address, read_fleet
from jmsnas.deploy.manifest import parse, to_bytes
from jmsnas.deploy.plan import chain_pieces, shipments
from jmsnas.errors import DeviceError, PartError

_PIECES = (
    b"null",
    b"-1",
    b"1e999",
    b"[" * 50,
    b'"../../x"',
    b"NaN",
    b"true",
    b"{}",
    b"9" * 300,
    b'"a"',
    b"\xff",
    b'":',
)


def test_manifests(proof: Proof) -> None:
    agents = {name: Address(name, "127.0.0.1:7070", "ab" * 32) for name in ("pi4", "cloud")}
    made = shipments(
        chain_pieces(("pi4", "cloud"), (2, 6), ("float32",) * 2),
        {"chain": exported()},
        agents,
        "cd" * 32,
        "ab" * 32,
        1,
    )
    corpus = [to_bytes(shipment.manifest) for shipment in made.values()]
    assert [parse(content) for content in corpus] == [shipment.manifest for shipment in made.values()]
    count, seed = proof.count(20_000, prove=300_000, long=50_000_000), time.time_ns() % 2**32
    rng, read = random.Random(seed), 0
    print("seed", seed)
    for _ in range(count):
        content = bytearray(rng.choice(corpus))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(content))
            if rng.randrange(2):
                content[at] = rng.randrange(256)
            else:
                content[at : at + rng.randrange(12)] = rng.choice(_PIECES)
        try:
            parse(bytes(content))
            read += 1
        except PartError as error:
            assert len(str(error)) < 200
    assert read < count
    proof.show(f"{count} mutated manifests (seed {seed}): 0 other errors")


def test_devices_toml(tmp_path: Path, proof: Proof) -> None:
    good = b'[[device]]\nname = "pi4"\naddress = "10.0.0.1:7070"\nfingerprint = "' + b"ab" * 32 + b'"\n'
    path, count, seed = tmp_path / "devices.toml", proof.count(2000, prove=30_000, long=10**6), 10
    path.write_bytes(good)
    assert read_fleet(path) == {"pi4": Address("pi4", "10.0.0.1:7070", "ab" * 32)}
    rng, read = random.Random(seed), 0
    for _ in range(count):
        content = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(content))
            content[at : at + rng.randrange(6)] = rng.choice((*_PIECES, bytes([rng.randrange(256)])))
        path.write_bytes(content)
        try:
            read_fleet(path)
            read += 1
        except DeviceError as error:
            assert "\n" not in str(error).splitlines()[0]
    assert read < count
    proof.show(f"{count} mutated devices.toml: 0 other errors")
