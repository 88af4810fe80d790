from pathlib import Path

import pytest

from jmsnas.errors import TopologyError
from jmsnas.nas.search.split_options import AS_IN_FILE, SplitOptions, topology_name
from jmsnas.topology import load_topology


def test_what_is_asked_for_goes_before_the_file() -> None:
    topology = load_topology("chain")
    assert AS_IN_FILE.of(topology) == topology
    asked = SplitOptions("joint", "relay", "float32", 2).of(topology)
    assert (asked.policy, asked.input_encoding) == ("relay", "float32")
    assert [device.min_layers for device in asked.devices] == [2, 0, 0, 0]
    with pytest.raises(TopologyError, match="has policy 'lazy'"):
        SplitOptions(policy="lazy").of(topology)


def test_a_topology_has_a_network(tmp_path: Path) -> None:
    assert topology_name("chain", None, tmp_path) == "chain"
    assert topology_name("mesh", None, tmp_path) == "mesh"
    assert topology_name("chain", "desk", tmp_path) == "desk"
    with pytest.raises(TopologyError, match="unknown topology 'ring': expected chain or mesh"):
        topology_name("ring", None, tmp_path)
    with pytest.raises(
        TopologyError, match="network mesh is a mesh, --topology chain was asked for: take --t"
    ):
        topology_name("chain", "mesh", tmp_path)
