"""Topology of devices and links: a chain (Fig. 2(a) of the paper) or a mesh (Fig. 2(b)).

C is the set of devices in series, T the tree (its root r and the children of r, which run in parallel).
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jmsnas.device import Device
from jmsnas.errors import TopologyError
from jmsnas.files import find_toml, read_toml, refuse_unknown_keys, toml_errors
from jmsnas.topology_figures import LinkFigures, device_figures_from_toml, link_figures_from_toml
from jmsnas.units import format_rate, parse_bytes, parse_duration, parse_energy, parse_power, parse_rate

WIRE_BYTES = {"float32": 4, "float16": 2, "uint8": 1}
INPUT_BYTES = {"uint8": 1, "float32": 4}
# Figures in a file have four digits.
_ROUNDED = 1e-3
POLICIES = ("strict", "relay", "stop-early")
FAN_OUTS = ("broadcast", "serial")


@dataclass(frozen=True, slots=True)
class Link:
    """A directed link; sending b bytes takes epsilon = delay_s + 8 b / capacity_bps.

    `wire` is the number format of activations on the link. The paper's links have delay 0 (Table I).
    `measured` is how rate and delay were measured, with the points that epsilon is interpolated between;
    None where they were given.
    """

    source: str
    target: str
    capacity_bps: float
    delay_s: float = 0.0
    wire: str = "float32"
    measured: LinkFigures | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Raise TopologyError for an invalid rate or number format, or figures of another rate or delay."""
        if not (self.capacity_bps > 0 and math.isfinite(self.capacity_bps)):
            raise TopologyError(
                f"link {self.source} -> {self.target} has rate {format_rate(self.capacity_bps)}: "
                "expected more than 0"
            )
        if self.wire not in WIRE_BYTES:
            raise TopologyError(
                f"link {self.source} -> {self.target} has wire {self.wire!r}: "
                f"expected one of {', '.join(WIRE_BYTES)}"
            )

        if self.measured:
            for what, value, interval in (
                ("rate", self.capacity_bps, self.measured.rate_interval_bps),
                ("delay", self.delay_s, self.measured.delay_interval_s),
            ):
                if not interval[0] * (1 - _ROUNDED) <= value <= interval[1] * (1 + _ROUNDED):
                    raise TopologyError(
                        f"link {self.source} -> {self.target} has a {what} outside of its measured interval: "
                        "expected it in [link.measured]. To give another one, delete that table"
                    )

    def epsilon_s(self, sent_bytes: float) -> float:
        """Return the seconds to send `sent_bytes` (epsilon of equations (1) and (2)).

        Up to the largest measured size, they are interpolated between the measured ones.
        """
        if self.measured and sent_bytes <= self.measured.sizes[-1]:
            return self.measured.interpolated_s(sent_bytes)
        return self.delay_s + 8 * sent_bytes / self.capacity_bps


@dataclass(frozen=True, slots=True)
class Topology:
    """Devices in the order of the data flow, the links between neighbours, and the constraints on splits.

    Attributes
    ----------
    root, children
        The tree of equation (2): both empty on a chain.
    input_encoding
        Format of the raw image on a link that no layer runs before: `uint8` or `float32`.
    policy
        `strict`: every device runs at least one layer (the paper); `relay`: a device may run none and
        forward only; `stop-early`: the result may stay where the last layer ran.
    fan_out
        How the root sends to its children: one `broadcast` (the paper), or `serial` copies.
    returns
        Whether the result returns to the first device, over the same links in reverse.
    """

    name: str
    devices: tuple[Device, ...]
    links: tuple[Link, ...]
    root: str = ""
    children: tuple[str, ...] = ()
    input_encoding: str = "uint8"
    policy: str = "strict"
    fan_out: str = "broadcast"
    returns: bool = False

    def __post_init__(self) -> None:
        """Raise TopologyError for inconsistent devices, links or settings."""
        for what, value, known in (
            ("input", self.input_encoding, INPUT_BYTES),
            ("policy", self.policy, POLICIES),
            ("fan_out", self.fan_out, FAN_OUTS),
        ):
            if value not in known:
                raise TopologyError(
                    f"topology {self.name} has {what} {value!r}: expected one of {', '.join(known)}"
                )
        names = [device.name for device in self.devices]
        if not names or len(set(names)) < len(names):
            raise TopologyError(
                f"topology {self.name} needs devices with different names, got {', '.join(names) or 'none'}"
            )
        unknown = {self.root, *self.children} - {"", *names}
        if unknown or bool(self.root) != bool(self.children) or self.root in self.children:
            raise TopologyError(
                f"topology {self.name} has a tree of root {self.root!r} and children {self.children!r}: "
                f"expected a root and its children among the devices {', '.join(names)}"
            )
        for device in self.devices:
            if self.policy == "strict" and device.max_layers == 0:
                raise TopologyError(
                    f"policy strict gives every device a layer, device {device.name} has max_layers 0: "
                    'expected policy = "relay" or "stop-early"'
                )
        needed = hops(self.name, self.main_path, self.root, self.children)
        for source, target in needed:
            self.link(source, target)
        if len(self.links) != len(needed):
            raise TopologyError(
                f"topology {self.name} has {len(self.links)} links, expected one for each of "
                + ", ".join(f"{source} -> {target}" for source, target in needed)
            )

    @property
    def M(self) -> int:
        """Number of devices."""
        return len(self.devices)

    @property
    def main_path(self) -> tuple[str, ...]:
        """All devices except the children, in order: all of a chain; C and the root of a mesh."""
        return tuple(device.name for device in self.devices if device.name not in self.children)

    @property
    def tree(self) -> tuple[str, ...]:
        """T: the root and its children; empty on a chain."""
        return (self.root, *self.children) if self.root else ()

    def device(self, name: str) -> Device:
        """Find a device by name. Raises TopologyError."""
        for device in self.devices:
            if device.name == name:
                return device
        known = ", ".join(device.name for device in self.devices)
        raise TopologyError(f"topology {self.name} has no device {name!r}: expected one of {known}")

    def link(self, source: str, target: str) -> Link:
        """Find the link from `source` to `target`. Raises TopologyError."""
        for link in self.links:
            if (link.source, link.target) == (source, target):
                return link
        raise TopologyError(f"topology {self.name} lacks a link {source} -> {target}")


def hops(name: str, main_path: Sequence[str], root: str, children: Sequence[str]) -> list[tuple[str, str]]:
    """Return the links (source, target) that a topology `name` needs: of its main path and its tree.

    Raises TopologyError where no device follows the root on the main path.
    """
    along = list(itertools.pairwise(main_path))
    if not root:
        return along
    after = main_path[main_path.index(root) + 1 :]
    if not after:
        raise TopologyError(f"topology {name} needs a device after its tree, which joins the branches")
    along.remove((root, after[0]))
    return along + [(root, child) for child in children] + [(child, after[0]) for child in children]


def uncounted_costs(devices: Sequence[Device], links: Sequence[Link]) -> str:
    """Say that T has no cost of calls and hops, as the paper's; empty where a device or a link has one."""
    if any(device.call_s for device in devices) or any(link.delay_s for link in links):
        return ""
    return "T as in the paper: no cost of calls or hops"


TOPOLOGY_KEYS = ("name", "input", "policy", "fan_out", "return", "device", "link", "tree")


def topology_from_toml(table: Mapping[str, Any], where: str) -> Topology:
    """Make a topology from a TOML document; docs/files.md lists its keys. Raises TopologyError."""
    refuse_unknown_keys(table, TOPOLOGY_KEYS, where, TopologyError)
    tree = table.get("tree", {})
    with toml_errors(where, TopologyError):
        refuse_unknown_keys(tree, ("root", "children"), f"{where} [tree]", TopologyError)
        return Topology(
            name=str(table["name"]),
            devices=tuple(device_from_toml(entry, where) for entry in table["device"]),
            links=tuple(link_from_toml(entry, where) for entry in table.get("link", ())),
            root=str(tree.get("root", "")),
            children=tuple(str(name) for name in tree.get("children", ())),
            input_encoding=str(table.get("input", "uint8")),
            policy=str(table.get("policy", "strict")),
            fan_out=str(table.get("fan_out", "broadcast")),
            returns=bool(table.get("return", False)),
        )


_MAX_COUNT = 1_000_000
_DEVICE_COUNTS = ("min_layers", "max_layers", "layers")
_DEVICE_UNITS: dict[str, tuple[str, Callable[[str], float]]] = {
    "memory": ("memory_bytes", parse_bytes),
    "energy": ("energy_j", parse_energy),
    "power": ("power_w", parse_power),
    "send_power": ("send_power_w", parse_power),
    "call": ("call_s", parse_duration),
}


def device_from_toml(entry: Mapping[str, Any], where: str) -> Device:
    """Make a device from a [[device]] table.

    Raises TopologyError, UnitError, KeyError, TypeError, ValueError.
    """
    known = ("name", "table", "role", "runtime", "measured", *_DEVICE_COUNTS, *_DEVICE_UNITS)
    refuse_unknown_keys(entry, known, f"{where} [[device]]", TopologyError)
    name = str(entry["name"])
    limits: dict[str, Any] = {key: int(entry[key]) for key in _DEVICE_COUNTS if key in entry}
    if any(abs(count) > _MAX_COUNT for count in limits.values()):
        raise TopologyError(f"{where}: device {name} has {limits}: expected at most {_MAX_COUNT} layers")
    for key, (attribute, parse) in _DEVICE_UNITS.items():
        if key in entry:
            limits[attribute] = parse(str(entry[key]))
    if "measured" in entry:
        limits["measured"] = device_figures_from_toml(entry["measured"], f"{where} [device.measured]")
    texts = (str(entry.get("table", name)), str(entry.get("role", "")))
    return Device(name, *texts, str(entry.get("runtime", "onnxruntime")), **limits)


def link_from_toml(entry: Mapping[str, Any], where: str) -> Link:
    """Make a link from a [[link]] table.

    Raises TopologyError, UnitError, KeyError, AttributeError.
    """
    known = ("from", "to", "rate", "delay", "wire", "measured")
    refuse_unknown_keys(entry, known, f"{where} [[link]]", TopologyError)
    measured = entry.get("measured")
    return Link(
        source=str(entry["from"]),
        target=str(entry["to"]),
        capacity_bps=parse_rate(str(entry["rate"])),
        delay_s=parse_duration(str(entry.get("delay", "0ms"))),
        wire=str(entry.get("wire", "float32")),
        measured=None if measured is None else link_figures_from_toml(measured, f"{where} [link.measured]"),
    )


def load_topology(name: str, user_folder: Path | None = None) -> Topology:
    """Load a topology: a `.toml` file, else NAME.toml in `user_folder`, else a built-in one.

    Raises TopologyError, UnitError.
    """
    path = find_toml("topologies", name, user_folder, TopologyError)
    return topology_from_toml(read_toml(path, TopologyError), str(path))
