import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_runs import write_mesh_run

from jmsnas.deploy.leader.load_run import load_run
from jmsnas.device import Device
from jmsnas.errors import InputError
from jmsnas.nas.latency.alternatives import SplitAlternatives
from jmsnas.nas.run_result import RunResult, decode_json, read_result, split_verdict
from jmsnas.nas.split.general_topology import general_topology
from jmsnas.topology import FAN_OUTS, INPUT_BYTES, POLICIES, WIRE_BYTES, Link, Topology, load_topology
from jmsnas.topology_figures import DeviceFigures, LinkFigures
from jmsnas.workspace import Workspace

AMOUNTS = st.floats(1e-9, 1e12)
TEXT = st.text(min_size=1, max_size=8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunResult]:
    """A run over a chain and one over a mesh."""
    workspace = Workspace(tmp_path_factory.mktemp("runs"))
    names = ("chain", "mesh")
    return [read_result(write_mesh_run(workspace, n, topology=load_topology(n))) for n in names]


@st.composite
def devices(draw: st.DrawFn, name: str) -> Device:
    """A device whose fields all have other values than their defaults, or may have."""
    least, more = draw(st.integers(0, 3)), draw(st.integers(1, 5))
    return Device(
        name=name,
        table=draw(TEXT),
        role=draw(TEXT),
        runtime=draw(TEXT),
        min_layers=least,
        max_layers=draw(st.none() | st.just(least + more)),
        layers=draw(st.none() | st.just(least + 1)),
        memory_bytes=draw(st.none() | AMOUNTS),
        energy_j=draw(st.none() | AMOUNTS),
        power_w=draw(AMOUNTS),
        send_power_w=draw(st.none() | AMOUNTS),
    )


@st.composite
def topologies(draw: st.DrawFn, like: Topology) -> Topology:
    """A topology of the same devices and hops, with all else drawn."""
    links = tuple(
        Link(k.source, k.target, draw(AMOUNTS), draw(st.floats(0, 10)), draw(st.sampled_from([*WIRE_BYTES])))
        for k in like.links
    )
    return Topology(
        name=draw(TEXT),
        devices=tuple(draw(devices(device.name)) for device in like.devices),
        links=links,
        root=like.root,
        children=like.children,
        input_encoding=draw(st.sampled_from([*INPUT_BYTES])),
        policy=draw(st.sampled_from(POLICIES)),
        fan_out=draw(st.sampled_from(FAN_OUTS)),
        returns=draw(st.booleans()),
    )


@given(data=st.data(), index=st.integers(0, 1))
def test_every_field_of_a_topology_survives_the_file(
    runs: list[RunResult], data: st.DataObject, index: int
) -> None:
    run = replace(runs[index], topology=data.draw(topologies(runs[index].topology)))
    content = json.dumps(run.document, allow_nan=False).encode()
    read = replace(decode_json(content, RunResult, Path("result.json")), folder=run.folder)
    assert read == run
    for part in fields(Topology):
        assert getattr(read.topology, part.name) == getattr(run.topology, part.name)


def test_measured_figures_survive_the_file(runs: list[RunResult]) -> None:
    at, links = "2026-11-30T17:45:00Z", runs[0].topology.links
    own = LinkFigures(at, (24e6, 26e6), (0.0, 1e-3), 1e-3, (256, 4096), (1e-3, 2e-3), back_rate_bps=1e6)
    device = replace(
        runs[0].topology.devices[0], measured=DeviceFigures(at, "ab" * 32, versions={"numpy": "2"})
    )
    topology = replace(
        runs[0].topology,
        devices=(device, *runs[0].topology.devices[1:]),
        links=(replace(links[0], capacity_bps=25e6, measured=own), *links[1:]),
    )
    content = json.dumps(replace(runs[0], topology=topology).document, allow_nan=False).encode()
    read = decode_json(content, RunResult, Path("result.json")).topology
    assert (read.links[0].measured, read.devices[0].measured) == (own, device.measured)


def test_a_serial_mesh_with_a_return_is_deployed_and_split_as_it_was_searched(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    topology = replace(load_topology("mesh"), fan_out="serial", returns=True, policy="relay")
    folder = write_mesh_run(workspace, "serial", topology=topology)
    run = read_result(folder)
    assert run.topology == topology == load_run(workspace, folder).topology
    graph = general_topology(run.topology)
    assert graph.tree and (graph.tree.fan_out, graph.returns, graph.policy) == ("serial", True, "relay")


def test_branches_lie_between_a_first_and_a_last_layer(runs: list[RunResult]) -> None:
    mesh, derived = runs[1], runs[1].derived
    N, children = len(mesh.space.layers), mesh.topology.children
    terms = [replace(term, layers=()) for term in derived.terms]
    workspace = next(k for k, term in enumerate(terms) if term.device in children)
    terms[workspace] = replace(terms[workspace], layers=tuple(range(1, N + 1)))
    with pytest.raises(ValueError, match="expected branches between a first and a last layer"):
        replace(mesh, derived=replace(derived, terms=tuple(terms)))


def test_what_does_not_fit_is_one_line(runs: list[RunResult], tmp_path: Path) -> None:
    for change, found in (
        ({"estimators": {}}, "expected an estimator for each of pi4, laptop, jetson, cloud"),
        ({"estimators": {"pi4": {"origin": "guess", "unseen_mape": 0.1}}}, "unknown origin 'guess'"),
        ({"topology": {**runs[0].document["topology"], "fan_out": "other"}}, "has fan_out 'other'"),
    ):
        (tmp_path / "result.json").write_text(json.dumps({**runs[0].document, **change}))
        with pytest.raises(InputError, match=f"result.json is damaged, .*{found}") as error:
            read_result(tmp_path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("device_only_s", "cloud_s", "best_s", "verdict"),
    [
        (9.0, 8.0, 3.0, "the searched split is the fastest, 3 s on pi4, laptop, jetson, cloud"),
        (9.0, 8.0, 2.0, "the best split is the fastest, 2 s on pi4, laptop"),
        (1.0, 8.0, 2.0, "device only is the fastest, 1 s on pi4: do not split this model"),
        (9.0, 1.0, None, "cloud only is the fastest, 1 s on cloud: do not split this model"),
    ],
)
def test_verdict_of_a_search(
    run: Path, device_only_s: float, cloud_s: float, best_s: float | None, verdict: str
) -> None:
    found = read_result(run)
    other = SplitAlternatives(device_only_s, best_s, ("pi4", "laptop") if best_s else ())
    derived, cloud = replace(found.derived, latency_s=3.0), replace(found.cloud_only, latency_s=cloud_s)
    words = split_verdict(replace(found, derived=derived, cloud_only=cloud, alternatives=other))
    assert words.startswith("the searched split 3 s; device only ") and words.endswith(verdict)
    assert not split_verdict(replace(found, alternatives=None))
