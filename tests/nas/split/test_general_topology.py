from pathlib import Path

import pytest

from jmsnas.errors import TopologyError
from jmsnas.nas.split.general_topology import load_general_topology
from jmsnas.topology import load_topology

RING = (
    '[[device]]\nname = "a"\n[[device]]\nname = "b"\n[[device]]\nname = "c"\n[[link]]\nfrom = "a"\nto = "c"\n'
    'rate = "8Mbit/s"\n[[link]]\nfrom = "c"\nto = "b"\nrate = "8Mbit/s"\n[[link]]\nfrom = "b"\nto = "a"\n'
    'rate = "1Mbit/s"\n'
)


def test_any_graph_and_the_built_in_networks(tmp_path: Path) -> None:
    path = tmp_path / "ring.toml"
    path.write_text(RING)
    ring = load_general_topology(str(path))
    assert [device.name for device in ring.devices] == ["a", "b", "c"] and len(ring.links) == 3
    for name in ("chain", "mesh"):
        topology, graph = load_topology(name), load_general_topology(name)
        assert (graph.devices, graph.links) == (topology.devices, topology.links)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "b"', 'name = "a"', "needs devices with different names, got a, a, c"),
        ('name = "b"', 'nam = "b"', "has unknown keys nam"),
        ('from = "a"\n', "", "lacks the key 'from'"),
        ("[[device]]", "speed = 3\n[[device]]", "has unknown keys speed"),
        ('rate = "8Mbit/s"', 'rate = "0Mbit/s"', "has rate 0 Mbit/s: expected more than 0"),
    ],
)
def test_what_no_graph_can_be(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "ring.toml"
    path.write_text(RING.replace(old, new, 1))
    with pytest.raises(TopologyError, match=words):
        load_general_topology(str(path))
