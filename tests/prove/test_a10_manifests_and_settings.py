"""A10: a malformed manifest or devices.toml raises a JmsnasError and nothing else."""

import time
from pathlib import Path

from deployments import exported, pieces
from prove.fuzz import manifests, on_both, settings
from prove.proof import Proof

from jmsnas.deploy.parts.manifest import manifest_bytes, parse_manifest
from jmsnas.deploy.parts.shipment import make_shipments
from jmsnas.deploy.transport.devices_file import AgentAddress, read_devices_file


def test_manifests(proof: Proof) -> None:
    agents = {name: AgentAddress(name, "127.0.0.1:7070", "ab" * 32) for name in ("pi4", "cloud")}
    made = make_shipments(
        pieces((2, 6), ("pi4", "cloud")),
        {"chain": exported()},
        agents,
        "cd" * 32,
        "ab" * 32,
        1,
    )
    corpus = [manifest_bytes(shipment.manifest) for shipment in made.values()]
    assert [parse_manifest(content) for content in corpus] == [
        shipment.manifest for shipment in made.values()
    ]
    count, seed = proof.count(20_000, prove=1_000_000, long=50_000_000), time.time_ns() % 2**32
    print("seed", seed)
    assert on_both(manifests, seed, count, corpus) < count
    proof.show(f"{count:,} mutated manifests (seed {seed}): 0 other errors")


def test_devices_toml(tmp_path: Path, proof: Proof) -> None:
    good = b'[[device]]\nname = "pi4"\naddress = "10.0.0.1:7070"\nfingerprint = "' + b"ab" * 32 + b'"\n'
    path = tmp_path / "devices.toml"
    path.write_bytes(good)
    assert read_devices_file(path) == {"pi4": AgentAddress("pi4", "10.0.0.1:7070", "ab" * 32)}
    count, seed = proof.count(20_000, prove=1_000_000, long=50_000_000), time.time_ns() % 2**32
    print("seed", seed)
    assert on_both(settings, seed, count, [good]) < count
    proof.show(f"{count:,} mutated devices.toml (seed {seed}): 0 other errors")
