from pathlib import Path

import pytest

from jmsnas.errors import NetworkError
from jmsnas.nas.search.split_options import AS_THE_FILE_SAYS, Splitting, network_name
from jmsnas.topology import load_network


def test_what_is_asked_for_goes_before_the_file() -> None:
    network = load_network("chain")
    assert AS_THE_FILE_SAYS.of(network) == network
    asked = Splitting("joint", "relay", "float32", 2).of(network)
    assert (asked.policy, asked.input_encoding) == ("relay", "float32")
    assert [device.min_layers for device in asked.devices] == [2, 0, 0, 0]
    with pytest.raises(NetworkError, match="has policy 'lazy'"):
        Splitting(policy="lazy").of(network)


def test_a_topology_has_a_network(tmp_path: Path) -> None:
    assert network_name("chain", None, tmp_path) == "chain"
    assert network_name("mesh", None, tmp_path) == "mesh"
    assert network_name("chain", "desk", tmp_path) == "desk"
    with pytest.raises(NetworkError, match="unknown topology 'ring': expected chain or mesh"):
        network_name("ring", None, tmp_path)
    with pytest.raises(
        NetworkError, match="network mesh is a mesh, --topology chain was asked for: take --t"
    ):
        network_name("chain", "mesh", tmp_path)
