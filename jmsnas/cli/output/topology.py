"""A topology with its measured figures, as a JSON document and as printed text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from jmsnas.cli.terminal import print_line, table_lines
from jmsnas.device import Device
from jmsnas.origin import origin_label
from jmsnas.topology import Link, Topology
from jmsnas.topology_figures import age_days
from jmsnas.units import format_duration

_DEVICE_COLUMNS = (
    ("device", "<13"), ("processor", "<34"), ("cores", ">5"), ("memory", ">10"), ("  onnxruntime", "<14"),
    ("call", ">10"), ("  table", "<15"), ("origin", ""),
)  # fmt: skip
_LINK_COLUMNS = (
    ("link", "<27"), ("Mbit/s", ">8"), ("95 %", ">15"), ("back", ">8"), ("loaded", ">8"),
    ("delay", ">11"), ("round trip", ">12"), ("  origin", ""),
)  # fmt: skip


def topology_document(topology: Topology, tables: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """Describe devices and links with their figures, the age of these in days, and their origin.

    `tables` has the kind of each latency table by name. `origin` is measured, emulated (by the agent), or
    given (in the file).
    """
    return {
        "topology": topology.name,
        "policy": topology.policy,
        "input": topology.input_encoding,
        "root": topology.root,
        "children": list(topology.children),
        "devices": [
            {
                **asdict(device),
                "latency_table": tables.get(device.table, "not profiled"),
                "origin": _device_origin(device),
                "age_days": age_days(device.measured.at, now) if device.measured else None,
            }
            for device in topology.devices
        ],
        "links": [
            {
                **asdict(link),
                "origin": "measured" if link.measured else "given",
                "age_days": age_days(link.measured.at, now) if link.measured else None,
            }
            for link in topology.links
        ],
    }


def _device_origin(device: Device) -> str:
    if not device.measured:
        return "given"
    return f"EMULATED: {device.measured.emulates}" if device.measured.emulates else "measured"


def print_topology(topology: Topology, document: Mapping[str, Any]) -> None:
    """Print the document of `topology_document` as two tables."""
    shape = f"tree {topology.root} = {', '.join(topology.children)}" if topology.root else "chain"
    print_line(
        f"Topology {topology.name}: {shape}, policy {topology.policy}, input {topology.input_encoding}", ""
    )
    rows = [_device_row(*pair) for pair in zip(topology.devices, document["devices"], strict=True)]
    print_line(*table_lines(_DEVICE_COLUMNS, rows), "")
    rows = [_link_row(*pair) for pair in zip(topology.links, document["links"], strict=True)]
    print_line(*table_lines(_LINK_COLUMNS, rows))
    if all(entry["origin"] == "given" for entry in (*document["devices"], *document["links"])):
        print_line("", "No figure was measured: rates, delays and calls are as given in the file.")


def _device_row(device: Device, document: Mapping[str, Any]) -> Sequence[str]:
    own = device.measured
    return (
        device.name,
        (own.gpu or own.processor or own.board)[:32] if own else "",
        str(own.cores or "") if own else "",
        f"{own.memory_bytes / 1e9:.3g} GB" if own and own.memory_bytes else "",
        f"  {own.versions.get('onnxruntime', '')}" if own else "",
        format_duration(device.call_s),
        f"  {origin_label(document['latency_table'])}",
        _origin(document),
    )


def _link_row(link: Link, document: Mapping[str, Any]) -> Sequence[str]:
    own = link.measured
    return (
        f"{link.source} -> {link.target}",
        _mbit(link.capacity_bps),
        " to ".join(map(_mbit, own.rate_interval_bps)) if own else "",
        _mbit(own.back_rate_bps) if own and own.back_rate_bps else "",
        _mbit(own.loaded_rate_bps) if own and own.loaded_rate_bps else "",
        format_duration(link.delay_s),
        format_duration(own.round_trip_s) if own else "",
        f"  {_origin(document)}",
    )


def _mbit(bits_per_second: float) -> str:
    return f"{bits_per_second / 1e6:.4g}"


def _origin(document: Mapping[str, Any]) -> str:
    age = "" if document["age_days"] is None else f", {document['age_days']:.1f} days ago"
    return f"{document['origin']}{age}"
