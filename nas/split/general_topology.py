"""Topologies with any links between devices, for the split of a given model.

A search needs a chain or a mesh (`Topology`); a given model can be split over any graph of devices.
"""

from dataclasses import dataclass
from pathlib import Path

from jmsnas.device import Device
from jmsnas.errors import TopologyError
from jmsnas.files import find_toml, read_toml, refuse_unknown_keys, toml_errors
from jmsnas.nas.graph.fork_join import MeshTree, mesh_tree
from jmsnas.topology import (
    TOPOLOGY_KEYS,
    Link,
    Topology,
    device_from_toml,
    link_from_toml,
    topology_from_toml,
)


@dataclass(frozen=True, slots=True)
class GeneralTopology:
    """A topology with links between any two devices; `Topology` is the special case of a chain or a mesh.

    The first device holds the raw input. `tree` is set on a mesh; the other fields are as in `Topology`.
    """

    devices: tuple[Device, ...]
    links: tuple[Link, ...]
    input_encoding: str = "uint8"
    policy: str = "strict"
    tree: MeshTree | None = None
    returns: bool = False


def general_topology(topology: Topology) -> GeneralTopology:
    """Convert a chain or a mesh to the general form."""
    own = topology.input_encoding, topology.policy, mesh_tree(topology), topology.returns
    return GeneralTopology(topology.devices, topology.links, *own)


def load_general_topology(name: str, user_folder: Path | None = None) -> GeneralTopology:
    """Load a topology file by name or path, with any links. Raises TopologyError, UnitError."""
    path = find_toml("topologies", name, user_folder, TopologyError)
    table, where = read_toml(path, TopologyError), str(path)
    refuse_unknown_keys(table, TOPOLOGY_KEYS, where, TopologyError)
    if table.get("tree"):
        return general_topology(topology_from_toml(table, where))
    with toml_errors(where, TopologyError):
        devices = tuple(device_from_toml(entry, where) for entry in table["device"])
        links = tuple(link_from_toml(entry, where) for entry in table.get("link", ()))
    names = [device.name for device in devices]
    if not names or len(set(names)) < len(names):
        raise TopologyError(f"{where} needs devices with different names, got {', '.join(names) or 'none'}")
    own = str(table.get("input", "uint8")), str(table.get("policy", "strict"))
    return GeneralTopology(devices, links, *own, returns=bool(table.get("return", False)))
