import pytest

from jmsnas.errors import TopologyError
from jmsnas.nas.search.split_options import SplitOptions
from jmsnas.topology import load_topology


def test_what_is_asked_for_goes_before_the_file() -> None:
    topology = load_topology("chain")
    assert SplitOptions().apply_to(topology) == topology
    asked = SplitOptions("joint", "relay", "float32", 2).apply_to(topology)
    assert (asked.policy, asked.input_encoding) == ("relay", "float32")
    assert [device.min_layers for device in asked.devices] == [2, 0, 0, 0]
    with pytest.raises(TopologyError, match="has policy 'lazy'"):
        SplitOptions(policy="lazy").apply_to(topology)
