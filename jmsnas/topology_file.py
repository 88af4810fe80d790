"""Content of a topology file with new figures: what a person wrote (limits, policy, comments) is kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jmsnas.errors import TopologyError
from jmsnas.files import parse_toml
from jmsnas.toml_lines import with_entry, with_subtable
from jmsnas.topology import Topology
from jmsnas.topology_figures import (
    device_figures_to_toml,
    duration_text,
    link_figures_to_toml,
    rate_text,
)

_HEAD = """# Rates, delays and calls are measured by: jmsnas topology collect {name}
# It sets them again, and keeps all else: order, policy, roles, limits, wire and comments.
name = "{name}"
input = "uint8"   # format of the raw image on a link: uint8 or float32
policy = "strict" # every device runs at least one layer; or relay, stop-early
"""
_TREE = """
[tree]
root = "{root}"
children = [{children}]
"""


def topology_content(topology: Topology, path: Path) -> bytes:
    """Return the content of the file of a topology with its measured figures, the rest unchanged.

    A file that does not exist is begun with all devices and links. Raises TopologyError for one that is
    damaged, has other devices or links, or is not written as tables of lines.
    """
    text = path.read_bytes().decode("utf-8-sig") if path.exists() else _new_text(topology)
    expected = parse_toml(text.encode(), path, TopologyError)
    found: dict[str, Any] = {}
    try:
        for kind, names, values, measured in _entries(topology):
            entry = next(e for e in expected[kind] if all(e.get(key) == text for key, text in names.items()))
            entry |= {**values, "measured": measured}
            text = with_subtable(with_entry(text, kind, names, values), kind, names, "measured", measured)
        found = parse_toml(text.encode(), path, TopologyError)
    except (KeyError, StopIteration, TopologyError):
        pass
    if found != expected:
        raise TopologyError(
            f"{path} cannot be edited line by line: expected each device and link as [[device]] or [[link]] "
            "with a line for each key. Write it so, or collect under another NAME"
        )
    return text.encode()


def _new_text(topology: Topology) -> str:
    text = _HEAD.format(name=topology.name)
    if topology.root:
        children = ", ".join(f'"{child}"' for child in topology.children)
        text += _TREE.format(root=topology.root, children=children)
    for kind, names, _, _ in _entries(topology):
        text = with_entry(text, kind, names, {})
    return text


Entry = tuple[str, Mapping[str, str], Mapping[str, str], Mapping[str, Any]]


def _entries(topology: Topology) -> list[Entry]:
    """Return the kind, names, values and keys of [*.measured] of each measured device and link."""
    devices: list[Entry] = [
        (
            "device",
            {"name": device.name},
            {"call": duration_text(device.call_s)},
            device_figures_to_toml(device.measured),
        )
        for device in topology.devices
        if device.measured
    ]
    return devices + [
        (
            "link",
            {"from": link.source, "to": link.target},
            {"rate": rate_text(link.capacity_bps), "delay": duration_text(link.delay_s)},
            link_figures_to_toml(link.measured),
        )
        for link in topology.links
        if link.measured
    ]
