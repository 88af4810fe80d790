import copy
from pathlib import Path
from typing import Any

import pytest

from jmsnas.device import Device
from jmsnas.errors import TopologyError, UnitError
from jmsnas.files import preset_path, read_toml
from jmsnas.topology import Link, load_topology, topology_from_toml

MESH: dict[str, Any] = {
    "name": "fig2b",
    "tree": {"root": "sbs", "children": ["a", "b", "c"]},
    "device": [{"name": n, "table": "jetson"} for n in ("ue", "sbs", "a", "b", "c", "cloud")],
    "link": [{"from": "ue", "to": "sbs", "rate": "25Mbit/s"}]
    + [{"from": "sbs", "to": n, "rate": "50Mbit/s"} for n in "abc"]
    + [{"from": n, "to": "cloud", "rate": "200Mbit/s"} for n in "abc"],
}


@pytest.fixture
def chain() -> dict[str, Any]:
    return copy.deepcopy(read_toml(preset_path("topologies", "chain"), TopologyError))


def test_table_one() -> None:
    topology = load_topology("chain")
    assert topology.main_path == ("pi4", "laptop", "jetson", "cloud")
    assert topology.tree == () and topology.M == 4
    assert [link.capacity_bps for link in topology.links] == [25e6, 50e6, 200e6]
    assert (topology.policy, topology.input_encoding, topology.links[0].wire) == (
        "strict",
        "uint8",
        "float32",
    )
    assert load_topology("desk").main_path == ("local", "laptop", "jetson", "cloud")


def test_epsilon_is_a_plus_b_bytes() -> None:
    # 301056 bytes at 25 Mbit/s: 8 * 301056 / 25e6 = 96.33792 ms (equations page), and 0.5 ms before it.
    assert Link("a", "b", 25e6).epsilon_s(301056) == pytest.approx(0.09633792, rel=1e-12)
    assert Link("a", "b", 25e6, 0.0005).epsilon_s(301056) == pytest.approx(0.09683792, rel=1e-12)


def test_a_mesh_has_a_tree_and_a_chain() -> None:
    topology = topology_from_toml(MESH, "fig2b.toml")
    assert topology.main_path == ("ue", "sbs", "cloud")
    assert topology.tree == ("sbs", "a", "b", "c") and topology.root == "sbs"
    assert topology.link("b", "cloud").capacity_bps == 200e6


def test_the_users_file_goes_first(tmp_path: Path, chain: dict[str, Any]) -> None:
    text = preset_path("topologies", "chain").read_text().replace("25Mbit/s", "100Mbit/s")
    (tmp_path / "chain.toml").write_text(text)
    assert load_topology("chain", tmp_path).links[0].capacity_bps == 100e6
    assert load_topology(str(tmp_path / "chain.toml")).links[0].capacity_bps == 100e6


def test_an_unknown_topology() -> None:
    with pytest.raises(TopologyError, match="unknown topology 'star': expected one of chain, desk"):
        load_topology("star")


def wrong(table: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**table, **changes}


def test_what_no_topology_can_be(chain: dict[str, Any]) -> None:
    links, devices = chain["link"], chain["device"]
    with pytest.raises(TopologyError, match="unknown keys speed"):
        topology_from_toml(wrong(chain, speed=3), "n.toml")
    with pytest.raises(TopologyError, match=r"n.toml \[\[link\]\] has unknown keys bandwidth"):
        topology_from_toml(wrong(chain, link=[{**links[0], "bandwidth": 3}]), "n.toml")
    with pytest.raises(UnitError, match="'-25Mbit/s' is not a link rate"):
        topology_from_toml(wrong(chain, link=[{**links[0], "rate": "-25Mbit/s"}]), "n.toml")
    with pytest.raises(TopologyError, match="link pi4 -> laptop has rate 0 Mbit/s: expected more than 0"):
        topology_from_toml(wrong(chain, link=[{**links[0], "rate": "0Mbit/s"}]), "n.toml")
    with pytest.raises(TopologyError, match="has wire 'int3': expected one of float32, float16, uint8"):
        topology_from_toml(wrong(chain, link=[{**links[0], "wire": "int3"}]), "n.toml")
    with pytest.raises(TopologyError, match="lacks a link jetson -> cloud"):
        topology_from_toml(wrong(chain, link=links[:2]), "n.toml")
    with pytest.raises(TopologyError, match="has 4 links, expected one for each of pi4 -> laptop, laptop"):
        topology_from_toml(wrong(chain, link=[*links, {**links[0], "from": "cloud", "to": "pi4"}]), "n.toml")
    with pytest.raises(TopologyError, match="needs devices with different names, got pi4, pi4"):
        topology_from_toml(wrong(chain, device=[devices[0], devices[0]]), "n.toml")
    with pytest.raises(TopologyError, match="has input 'png': expected one of uint8, float32"):
        topology_from_toml(wrong(chain, input="png"), "n.toml")
    with pytest.raises(TopologyError, match="has policy 'lazy': expected one of strict, relay, stop-early"):
        topology_from_toml(wrong(chain, policy="lazy"), "n.toml")
    with pytest.raises(TopologyError, match="n.toml lacks the key 'name'"):
        topology_from_toml({k: v for k, v in chain.items() if k != "name"}, "n.toml")
    with pytest.raises(TopologyError, match="n.toml has a value of the wrong kind"):
        topology_from_toml(wrong(chain, device=5), "n.toml")


def test_what_no_tree_can_be() -> None:
    with pytest.raises(TopologyError, match="expected a root and its children among the devices ue, sbs"):
        topology_from_toml(wrong(MESH, tree={"root": "sbs", "children": ["x"]}), "n.toml")
    with pytest.raises(TopologyError, match="needs a device after its tree"):
        topology_from_toml(wrong(MESH, device=MESH["device"][:-1]), "n.toml")


def test_the_papers_mesh() -> None:
    topology = load_topology("mesh")
    assert topology.main_path == ("pi4", "laptop", "cloud")
    assert topology.tree == ("laptop", "mbs1", "mbs2", "mbs3")
    assert topology.main_path == ("pi4", "laptop", "cloud")
    assert {topology.link("laptop", child).capacity_bps for child in topology.children} == {50e6}
    assert {topology.link(child, "cloud").capacity_bps for child in topology.children} == {200e6}


def test_what_a_device_allows(chain: dict[str, Any]) -> None:
    ue = {**chain["device"][0], "min_layers": 2, "max_layers": 9, "layers": 3}
    ue |= {"memory": "64MB", "energy": "35mJ", "power": "5W", "send_power": "800mW", "call": "0.12ms"}
    topology = topology_from_toml(
        wrong(chain, device=[ue, *chain["device"][1:]], **{"return": True}), "n.toml"
    )
    device = topology.devices[0]
    assert (device.min_layers, device.max_layers, device.layers) == (2, 9, 3)
    assert (device.memory_bytes, device.energy_j) == (64e6, 0.035)
    assert (device.power_w, device.send_power_w, topology.returns) == (5, 0.8, True)
    assert device.call_s == pytest.approx(0.12e-3)
    assert topology.devices[1].memory_bytes is None and not load_topology("chain").returns


@pytest.mark.parametrize("name", ["chain", "desk", "mesh"])
def test_built_in_topologies_count_no_calls_and_delays(name: str) -> None:
    topology = load_topology(name)
    assert not any(device.call_s for device in topology.devices)
    assert not any(link.delay_s for link in topology.links)


def test_limits_that_contradict_one_another(chain: dict[str, Any]) -> None:
    def with_ue(**limits: Any) -> None:
        topology_from_toml(wrong(chain, device=[{**chain["device"][0], **limits}, *chain["device"][1:]]), "n")

    with pytest.raises(
        TopologyError, match="pi4 has min_layers 3 and max_layers 2: expected 0 <= min_layers"
    ):
        with_ue(min_layers=3, max_layers=2)
    with pytest.raises(TopologyError, match="pi4 has layers = 1, min_layers 2 and max_layers None: expected"):
        with_ue(layers=1, min_layers=2)
    with pytest.raises(TopologyError, match="pi4 has an energy limit but no power: add its power while"):
        with_ue(energy="1J")
    with pytest.raises(TopologyError, match="policy strict gives every device a layer, device pi4 has max_l"):
        with_ue(max_layers=0)
    with pytest.raises(TopologyError, match="unknown keys watts"):
        with_ue(watts=3)
    with pytest.raises(UnitError, match="'5' is not a power: expected a number >= 0 and one of mw, w"):
        with_ue(power=5)
    with pytest.raises(UnitError, match="'-1ms' is not a duration: expected a number >= 0"):
        with_ue(call="-1ms")
    with pytest.raises(TopologyError, match="device a has call_s = -1: expected seconds of 0 or more"):
        Device("a", "a", "", call_s=-1)


@pytest.mark.parametrize("count", [1e300, -1e300, 2**62, 1_000_001])
def test_number_of_layers_of_a_device_is_bounded(chain: dict[str, Any], count: float) -> None:
    chain["device"][0]["min_layers"] = count
    with pytest.raises(TopologyError, match="expected at most 1000000 layers"):
        topology_from_toml(chain, "x.toml")
