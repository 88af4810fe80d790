"""Devices and any links between them, from a network file: what `jmsnas split` needs of one.

A search needs a chain or a mesh (jmsnas/topology.py); a fixed network can be split over any graph of devices.
"""

from dataclasses import dataclass
from pathlib import Path

from jmsnas.device import Device
from jmsnas.errors import TopologyError
from jmsnas.files import find_toml, read_toml, refuse_unknown_keys
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
    """Devices (the first holds the raw input), links, the file's own input encoding and policy; its tree.

    `returns`: whether the result goes back to the first device, as of `Topology`.
    """

    devices: tuple[Device, ...]
    links: tuple[Link, ...]
    input_encoding: str = "uint8"
    policy: str = "strict"
    tree: MeshTree | None = None
    returns: bool = False


def general_topology(topology: Topology) -> GeneralTopology:
    """Give a chain or mesh as a graph."""
    own = topology.input_encoding, topology.policy
    return GeneralTopology(topology.devices, topology.links, *own, mesh_tree(topology), topology.returns)


def load_general_topology(name: str, user_folder: Path | None = None) -> GeneralTopology:
    """Load a network file by name or path, whatever its links are. Raises NetworkError, UnitError."""
    path = find_toml("topologies", name, user_folder, TopologyError)
    table, where = read_toml(path, TopologyError), str(path)
    refuse_unknown_keys(table, TOPOLOGY_KEYS, where, TopologyError)
    if table.get("tree"):
        return general_topology(topology_from_toml(table, where))
    try:
        devices = tuple(device_from_toml(entry, where) for entry in table["device"])
        links = tuple(link_from_toml(entry, where) for entry in table.get("link", ()))
    except KeyError as error:
        raise TopologyError(f"{where} lacks the key {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise TopologyError(f"{where} has a value of the wrong kind: {error}") from error
    names = [device.name for device in devices]
    if not names or len(set(names)) < len(names):
        raise TopologyError(f"{where} needs devices with different names, got {', '.join(names) or 'none'}")
    own = str(table.get("input", "uint8")), str(table.get("policy", "strict"))
    return GeneralTopology(devices, links, *own, returns=bool(table.get("return", False)))
