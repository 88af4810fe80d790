import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from attacks.weights import WEIGHTS
from deployments import DEVICES, RESTRICTED_AGENT, Fleet, exported, fleet, images, pieces, segments

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.parts.export import export_model
from jmsnas.deploy.parts.manifest import Manifest, manifest_bytes, parse_manifest
from jmsnas.deploy.parts.runtime import PartRunner, golden_arrays, golden_error
from jmsnas.deploy.parts.shipment import PartSpec, Shipment, make_shipments
from jmsnas.deploy.transport.certificates import make_certificates
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.identity import fingerprint, read_identity
from jmsnas.errors import DeployError, PartError
from jmsnas.mobilenets import mobilenet
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.timing.onnx_export import seeded_module

TORCH = RuntimeKey("torch")


def served(found: tuple[PartSpec, ...], *keys: RuntimeKey) -> tuple[PartSpec, ...]:
    return tuple(replace(piece, key=key) for piece, key in zip(found, keys, strict=True))


def shipment(key: RuntimeKey = TORCH, first: int = 1, last: int = 6) -> Shipment:
    (piece,) = served(pieces((6,), ("pi4",)), key)
    piece = replace(piece, first=first, last=last)
    agents = {"pi4": AgentAddress("pi4", "127.0.0.1:7070", "ab" * 32)}
    return make_shipments((piece,), segments(), agents, "cd" * 32, "ab" * 32, 1)["pi4"]


def blob_of(found: Shipment) -> bytes:
    assert found.manifest.model is not None
    return found.blobs[found.manifest.model.sha256]


def error_of(found: Shipment) -> float:
    manifest = found.manifest
    assert manifest.golden is not None
    runner = PartRunner(manifest, blob_of(found))
    return golden_error(runner, *golden_arrays(manifest, found.blobs[manifest.golden.sha256]))


def test_manifest_has_the_architecture() -> None:
    manifest = shipment(first=2, last=4).manifest
    assert manifest.runtime == "torch" and manifest.processor == "cpu" and manifest.ops == ()
    assert manifest.blocks == tuple(str(block) for block in exported().blocks[1:4])
    assert [text.partition(" ")[0] for text in manifest.blocks] == ["mb_k3_e3", "identity", "mb_k3_e3_skip"]
    assert parse_manifest(manifest_bytes(manifest)) == manifest


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_output_agrees_with_the_leader(layout: str) -> None:
    for first, last in ((1, 6), (2, 4), (3, 3 + 1)):
        assert error_of(shipment(RuntimeKey("torch", layout=layout), first, last)) < 1e-6


def test_read_only_input_and_independent_outputs() -> None:
    found = shipment()
    runner = PartRunner(found.manifest, blob_of(found))
    one, two = images(2)
    one.flags.writeable = False
    first = runner(one)
    kept = first.copy()
    runner(two)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(first, exported().run(one), atol=1e-5)


def test_mobilenet_v3_with_squeeze_and_classifier() -> None:
    part = mobilenet("mobilenet_v3_small", (3, 32, 32), 10, 0.25)
    model = torch.nn.Sequential(*(seeded_module(block) for block in part.blocks))
    made = replace(export_model(model, (1, 3, 32, 32)), blocks=part.blocks)
    (piece,) = served(pieces((len(model),), ("pi4",)), TORCH)
    agents = {"pi4": AgentAddress("pi4", "127.0.0.1:7070", "ab" * 32)}
    found = make_shipments((piece,), {"chain": made}, agents, "cd" * 32, "ab" * 32, 1)["pi4"]
    assert error_of(found) < 1e-5


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("transposed shape", "another dtype or shape than its block has"),
        ("tensor renamed", "tensors missing or unknown"),
    ],
)
def test_weights_of_other_blocks(name: str, refused: str) -> None:
    found = shipment()
    with pytest.raises(PartError, match=refused):
        PartRunner(found.manifest, WEIGHTS[name](blob_of(found)))


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"runtime": "tensorrt"}, "an invalid value of runtime"),
        ({"processor": "tpu"}, "an invalid value of runtime"),
        ({"layout": "diagonal"}, "an invalid value of runtime"),
        ({"blocks": ()}, "an invalid value of runtime"),
        ({"opset": 20}, "an invalid value of runtime"),
        ({"runtime": "onnxruntime"}, "an invalid value of runtime"),
        ({"blocks": ("stem 1->16 8x8",)}, "another input or output shape"),
    ],
)
def test_invalid_manifests(changes: dict[str, object], refused: str) -> None:
    honest = shipment().manifest
    fields = {name: getattr(honest, name) for name in Manifest.__struct_fields__}
    with pytest.raises(PartError, match=refused):
        Manifest(**(fields | changes))


def test_cuda_part() -> None:
    found = shipment(RuntimeKey("torch", processor="cuda"))
    if torch.cuda.is_available():
        assert error_of(found) < 1e-4
        return
    with pytest.raises(PartError, match="for CUDA, and torch finds no GPU on this device"):
        PartRunner(found.manifest, blob_of(found))


def test_model_without_blocks_has_no_torch_parts() -> None:
    made = replace(exported(), blocks=())
    with pytest.raises(DeployError, match="has no torch parts: serve it by onnxruntime"):
        made.weights_file(1, 6)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet")) as found:
        yield found


def test_chain_of_both_runtimes_agrees_with_the_model(three: Fleet) -> None:
    three.leader.ship(served(pieces(), RuntimeKey(), TORCH, RuntimeKey()), segments())
    for x in images(3):
        answer = three.leader.infer(x)
        assert [stop.device for stop in answer.trail] == list(DEVICES)
        np.testing.assert_allclose(answer.logits, exported().run(x), atol=1e-4)


@pytest.mark.parametrize(("wire", "off"), [("float16", 2e-2), ("uint8", 0.5)])
def test_wire_formats_between_runtimes(three: Fleet, wire: str, off: float) -> None:
    found = pieces(wires=(wire,) * 3)
    three.leader.ship(served(found, RuntimeKey(), TORCH, RuntimeKey()), segments())
    (x,) = images(1)
    difference = np.abs(three.leader.infer(x).logits - exported().run(x)).max()
    assert 0 < difference < off


def test_another_runtime_needs_another_blob(three: Fleet) -> None:
    """The same layers by onnxruntime, then by torch: another blob is sent, to that device only."""
    three.leader.ship(pieces(), segments())
    sent = three.leader.ship(served(pieces(), RuntimeKey(), RuntimeKey(), TORCH), segments())
    assert sent["cloud"] > 0 and sent["pi4"] == sent["laptop"] == 0
    assert three.agents["cloud"].parts.find(three.leader.epoch).manifest.runtime == "torch"  # type: ignore[union-attr]


def test_device_without_torch_names_what_to_install(tmp_path: Path) -> None:
    (certs,) = make_certificates(tmp_path / "certs", ("pi4",))
    arguments = ["--certs", str(certs), "--store", str(tmp_path / "store"), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [sys.executable, "-c", RESTRICTED_AGENT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        where = process.stdout.readline().strip().rpartition(" ")[2]
        pin = fingerprint(read_identity(certs).certificate_pem)
        leader = Leader(tmp_path / "certs" / "leader", {"pi4": AgentAddress("pi4", where, pin)})
        try:
            with pytest.raises(
                DeployError, match="device pi4: a torch part, and this device has no torch: pyth"
            ):
                leader.ship(served(pieces((6,), ("pi4",)), TORCH), segments())
            # The agent still serves the same layers by onnxruntime; torch was never imported.
            leader.ship(pieces((6,), ("pi4",)), segments())
            (x,) = images(1)
            np.testing.assert_allclose(leader.infer(x).logits, exported().run(x), atol=1e-4)
        finally:
            leader.close()
            process.terminate()
            process.communicate()
