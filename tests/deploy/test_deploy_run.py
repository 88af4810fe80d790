import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deployments import CHAIN, DEVICES, fleet, write_devices

from jmsnas.blocks import build_module
from jmsnas.cli.deploy import _parse_cuts
from jmsnas.deploy.deploy_run import DeployOptions, deploy_run
from jmsnas.deploy.leader.calibration import calibrate, load_calibrated_estimators, read_factor
from jmsnas.deploy.leader.deployment import Deployment, prepare_deployment
from jmsnas.deploy.leader.leader import ImageEncoding
from jmsnas.deploy.leader.load_run import TrainedRun, load_run, over_topology
from jmsnas.deploy.leader.predicted_vs_measured import (
    choose_image_encoding,
    measure_deployment,
    quantise_images,
)
from jmsnas.deploy.leader.solve_split import without_devices
from jmsnas.deploy.parts.shipment import segment_layers
from jmsnas.deploy.perfetto import TRACE_FILE
from jmsnas.errors import DeployError, DeviceError, InputError, TopologyError
from jmsnas.nas.run_result import RunResult
from jmsnas.nas.supernet.supernet import DerivedModel
from jmsnas.space import Block
from jmsnas.space_file import load_space
from jmsnas.topology import load_topology
from jmsnas.workspace import Workspace

Found = tuple[Workspace, Path, dict[str, Any]]


@pytest.fixture(scope="module")
def deployed(short_run: tuple[Workspace, RunResult], tmp_path_factory: pytest.TempPathFactory) -> Found:
    """A finished search deployed on four agents with mutual TLS. Do not write to it."""
    import shutil

    workspace = Workspace(tmp_path_factory.mktemp("deployed"))
    shutil.copytree(short_run[0].folder, workspace.folder, dirs_exist_ok=True)
    with fleet(workspace.folder, CHAIN) as four:
        write_devices(workspace, four)
        found = deploy_run(workspace, workspace.run("short"), DeployOptions(requests=30))
    return workspace, workspace.run("short"), found.document


def test_every_term_has_a_prediction_and_a_measurement(deployed: Found) -> None:
    _, folder, document = deployed
    assert json.loads((folder / "deploy.json").read_text()) == json.loads(json.dumps(document))
    predicted = [term for term in document["terms"] if term["predicted_s"] is not None]
    # Strict: a compute term for each device, a send term between neighbours, and T is their sum.
    assert [term["kind"] for term in predicted] == ["compute"] + ["send", "compute"] * 3
    total = sum(term["predicted_s"] for term in predicted)
    assert document["latency"]["predicted_s"] == pytest.approx(total, rel=1e-9)
    # A part of identities is a relay: predicted as 0 s, it has no ratio.
    timed = [term for term in predicted if term["predicted_s"] > 0]
    assert all(term["ratio"] == term["measured_s"] / term["predicted_s"] for term in timed)
    assert all(term["ratio"] is None for term in predicted if term not in timed) and len(timed) >= 6
    assert document["latency"]["p50"] <= document["latency"]["p95"] <= document["latency"]["p99"]
    assert document["simulated"] == list(CHAIN) and not document["published"] and not document["loopback"]


def test_accuracy_is_that_of_the_undivided_model(
    deployed: Found, short_run: tuple[Workspace, RunResult]
) -> None:
    accuracy = deployed[2]["accuracy"]
    assert accuracy["equal"] and accuracy["largest_difference"] <= 1e-4
    assert accuracy["divided"] == accuracy["undivided"] == short_run[1].accuracy.test
    assert deployed[2]["pipelined"]["images"] == 360


def test_the_timeline_begins_and_ends_with_the_request(
    deployed: Found,
) -> None:
    legs = deployed[2]["timeline"]
    assert [leg["device"] for leg in legs] == list(CHAIN) and legs[0]["received_s"] == 0
    times = [leg[name] for leg in legs for name in ("received_s", "begun_s", "ended_s")]
    assert times == sorted(times)


def test_the_trace_has_a_file_for_each_device_and_a_manifest(
    deployed: Found,
) -> None:
    with tarfile.open(fileobj=io.BytesIO((deployed[1] / TRACE_FILE).read_bytes())) as archive:
        names = archive.getnames()
        documents = {name: json.loads(archive.extractfile(name).read()) for name in names}  # type: ignore[union-attr]
    assert names == ["perfetto_manifest.json", *(f"{name}.json" for name in CHAIN)]
    manifest = documents["perfetto_manifest.json"]["perfetto_manifest"]
    assert manifest["version"] == 1
    assert [(f["path"], f["machine"]["name"]) for f in manifest["files"]] == [(f"{n}.json", n) for n in CHAIN]
    # One time for all, that of the first file: https://perfetto.dev/docs/reference/perfetto-manifest.
    pinned = {"sync_to": {"file": f"{CHAIN[0]}.json"}, "offset_ns": 0}
    assert [f.get("clocks") for f in manifest["files"]] == [None, *[pinned] * (len(CHAIN) - 1)]
    begun: dict[tuple[object, ...], float] = {}
    for name in CHAIN:
        head, *events = documents[f"{name}.json"]["traceEvents"]
        assert head == {"ph": "M", "pid": 1, "tid": 1, "name": "process_name", "args": {"name": name}}
        assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)
        for event in events:
            key = (name, event["name"], event["cat"], event["id"])
            if event["ph"] == "b":
                assert key not in begun
                begun[key] = event["ts"]
            else:
                assert event["ph"] == "e" and begun.pop(key) <= event["ts"]
    assert not begun, "a span that never ends"


def test_calibration_factors_are_kept(deployed: Found, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    compute = [term for term in deployed[2]["terms"] if term["kind"] == "compute"]
    factors = calibrate(deployed[2], load_topology("chain"), workspace)
    assert [term["where"] for term in compute] == list(CHAIN)
    assert factors == {term["where"]: term["ratio"] for term in compute if term["ratio"] is not None}
    assert (
        read_factor(workspace, "pi4") == pytest.approx(factors["pi4"])
        and read_factor(workspace, "other") == 1.0
    )
    term = {"kind": "compute", "where": "pi4"}
    for ratio in (1e9, 1e-9):  # of a device that reports absurd times
        with pytest.raises(DeployError, match="a calibration factor of .* for pi4: expected 0.001 to 1000"):
            calibrate({"terms": [{**term, "ratio": ratio}]}, load_topology("chain"), workspace)
        assert read_factor(workspace, "pi4") == pytest.approx(factors["pi4"])
    (tmp_path / "calibration" / "pi4.json").write_text("{}")
    with pytest.raises(InputError, match="is damaged, or not as expected .*Delete it"):
        read_factor(workspace, "pi4")


def test_a_device_without_an_agent_is_named(short_run: tuple[Workspace, RunResult]) -> None:
    with pytest.raises(DeviceError, match="no agent of pi4, laptop, jetson, cloud.*--loopback"):
        deploy_run(short_run[0], short_run[1].folder)


THREE_DEVICES = """
name = "three"
device = [{name = "pi4"}, {name = "laptop"}, {name = "cloud"}]
link = [
    {from = "pi4", to = "laptop", rate = "50Mbit/s"},
    {from = "laptop", to = "cloud", rate = "50Mbit/s", wire = "float16"},
]
"""


def test_another_topology_than_the_run(short_run: tuple[Workspace, RunResult], tmp_path: Path) -> None:
    import shutil

    workspace = Workspace(tmp_path / "workspace")
    shutil.copytree(short_run[0].folder, workspace.folder)
    workspace.topologies.mkdir()
    (workspace.topologies / "three.toml").write_text(THREE_DEVICES)
    with fleet(workspace.folder, DEVICES) as three:
        write_devices(workspace, three)
        options = DeployOptions(requests=20, topology="three")
        found = deploy_run(workspace, workspace.run("short"), options)
    assert found.document["topology"] == found.topology.name == "three"
    assert [leg["device"] for leg in found.document["timeline"]] == list(DEVICES)
    assert found.document["simulated"] == list(DEVICES) and len(found.document["cuts"]) == 3
    assert found.document["accuracy"]["divided"] == pytest.approx(short_run[1].accuracy.test, abs=0.01)


def test_topology_of_another_kind_is_refused(short_run: tuple[Workspace, RunResult], tmp_path: Path) -> None:
    options = DeployOptions(topology="mesh")
    message = "topology mesh is a mesh with 3 children, run short was searched for a chain: expected"
    with pytest.raises(TopologyError, match=message):
        deploy_run(short_run[0], short_run[1].folder, options)
    with pytest.raises(TopologyError, match="run mesh was searched for a mesh with 3 children"):
        over_topology(mesh_run(tmp_path), load_topology("chain"))
    with pytest.raises(TopologyError, match="unknown topology 'other'"):
        deploy_run(short_run[0], short_run[1].folder, DeployOptions(topology="other"))


@pytest.mark.parametrize(
    ("text", "words"), [("2,x", "non-decreasing whole numbers"), ("4,2", "non-decreasing")]
)
def test_invalid_cuts(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        _parse_cuts(text)
    assert _parse_cuts("2,4,9") == (2, 4, 9)


def test_cuts_of_another_topology(short_run: tuple[Workspace, RunResult]) -> None:
    with pytest.raises(InputError, match="expected 4 non-decreasing numbers, the last 12"):
        deploy_run(short_run[0], short_run[1].folder, DeployOptions(cuts=(2, 12)))
    with pytest.raises(InputError, match="--emulate is for --loopback"):
        deploy_run(short_run[0], short_run[1].folder, DeployOptions(emulate=True))


def test_a_damaged_run(short_run: tuple[Workspace, RunResult], tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(short_run[1].folder, folder)
    (folder / "weights.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="weights.safetensors is damaged. Run the search again"):
        load_run(short_run[0], folder)


def test_images_are_encoded_on_their_own_grid() -> None:
    topology = load_topology("chain")
    digits = np.random.default_rng(0).integers(0, 17, (4, 1, 8, 8)).astype(np.float32) / 8 - 1
    encoding = choose_image_encoding(digits, topology)
    assert encoding == ImageEncoding("u1", 0.125, -1.0)
    np.testing.assert_array_equal(quantise_images(digits, encoding), digits)
    # Pixels on no grid are quantised over their range: the error is half a step at most.
    rough = np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32)
    found = choose_image_encoding(rough, topology)
    assert np.abs(quantise_images(rough, found) - rough).max() <= found.scale / 2 * 1.001


def mesh_run(tmp_path: Path) -> TrainedRun:
    """An untrained network of the digits space with three branches."""
    space, topology = load_space("digits", branches=3), load_topology("mesh")
    blocks = tuple(
        Block(choices[0], layer) for choices, layer in zip(space.choices, space.layers, strict=True)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = DerivedModel(space, [build_module(block) for block in blocks]).eval()
    pixels = np.random.default_rng(0).integers(0, 17, (24, 1, 8, 8)).astype(np.float32) / 8 - 1
    labels = np.zeros(24, np.int64)
    return TrainedRun("mesh", tmp_path, space, blocks, topology, module, pixels, labels)


@pytest.fixture(scope="module")
def mesh(
    simulated_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Deployment, dict[str, Any]]:
    """A mesh over six agents: planned, measured with reference models, run, compared."""
    import shutil

    workspace = Workspace(tmp_path_factory.mktemp("mesh"))
    shutil.copytree(simulated_workspace.folder, workspace.folder, dirs_exist_ok=True)
    run = mesh_run(workspace.folder)
    names = tuple(device.name for device in run.topology.devices)
    with fleet(workspace.folder, names) as six:
        predictors, _ = load_calibrated_estimators(run.topology, run.space, workspace, lambda text: None)
        deployment = prepare_deployment(run, six.leader, predictors, workspace.folder / "cache")
        deployment.plan()
        document, _ = measure_deployment(deployment, run.pixels, run.labels, 20)
    return deployment, document


def test_branches_of_a_mesh_are_summed(mesh: tuple[Deployment, dict[str, Any]]) -> None:
    deployment, document = mesh
    assert document["accuracy"]["largest_difference"] <= 1e-4
    assert set(segment_layers(deployment.run.space)) == {"trunk", "branch1", "branch2", "branch3", "tail"}
    sends = [term["where"] for term in document["terms"] if term["kind"] == "send"]
    assert sends == [
        "pi4 -> laptop",
        "laptop -> mbs1",
        "mbs1 -> cloud",
        "laptop -> mbs2",
        "mbs2 -> cloud",
        "laptop -> mbs3",
        "mbs3 -> cloud",
    ]
    assert all(term["predicted_s"] for term in document["terms"] if term["kind"] != "wait")


def test_overhead_of_a_mesh_is_measured_on_every_device_and_link(
    mesh: tuple[Deployment, dict[str, Any]],
) -> None:
    deployment, document = mesh
    devices = {device.name for device in deployment.topology.devices}
    assert set(deployment.overheads) == devices == {"pi4", "laptop", "mbs1", "mbs2", "mbs3", "cloud"}
    solved = deployment.planned
    assert solved is not None
    for (source, target), link in deployment.links.items():
        # The size that the reference models sent is among the sizes; the deployed model sends the same bytes.
        assert link.epsilon_s(link.sizes[-1]) > 0 and solved.epsilon_s[source, target] in {
            link.epsilon_s(size) for size in link.sizes
        }


def test_a_mesh_is_predicted_by_its_longest_branch(mesh: tuple[Deployment, dict[str, Any]]) -> None:
    deployment, document = mesh
    tau, eps = deployment.planned.tau_s, deployment.planned.epsilon_s  # type: ignore[union-attr]
    branches = [eps["laptop", m] + tau[m] + eps[m, "cloud"] for m in ("mbs1", "mbs2", "mbs3")]
    # (2): C and the root once, and the longest branch.
    expected = tau["pi4"] + eps["pi4", "laptop"] + tau["laptop"] + max(branches) + tau["cloud"]
    assert document["latency"]["predicted_s"] == pytest.approx(expected, rel=1e-9)


def test_topology_without_lost_devices() -> None:
    chain, mesh = load_topology("chain"), load_topology("mesh")
    shorter = without_devices(chain, ["jetson"])
    assert [link.target for link in shorter.links] == ["laptop", "cloud"]
    assert without_devices(mesh, ["mbs2"]).children == ("mbs1", "mbs3")
    for lost in (["laptop"], ["cloud"], ["mbs1", "cloud"], ["mbs1", "mbs2", "mbs3"]):
        with pytest.raises(DeployError, match=f"device {', '.join(lost)} is lost: a mesh can continue with"):
            without_devices(mesh, lost)
    for topology in (chain, mesh):
        with pytest.raises(DeployError, match="device pi4 is lost, which receives the images: no plan"):
            without_devices(topology, ["pi4"])


def test_a_lost_branch_of_a_mesh_without_a_spare_child(
    simulated_workspace: Workspace, tmp_path: Path
) -> None:
    run = mesh_run(tmp_path)
    names = tuple(device.name for device in run.topology.devices)
    with fleet(tmp_path, names) as six:
        predictors, _ = load_calibrated_estimators(
            run.topology, run.space, simulated_workspace, lambda text: None
        )
        deployment = prepare_deployment(run, six.leader, predictors, tmp_path / "cache")
        six.agents["mbs2"].stop(0)
        message = "device mbs2 is lost, and no plan is possible without it .*2 children.*3 branches.*doctor"
        with pytest.raises(DeployError, match=message):
            deployment.replan()
