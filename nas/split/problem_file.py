"""`--costs FILE`: a table of given times and sizes, as TOML, JSON or CSV; docs/split.md describes it."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jmsnas.device import Device
from jmsnas.errors import InputError, TopologyError, UnitError
from jmsnas.files import read_toml, refuse_unknown_keys
from jmsnas.nas.graph.fork_join import MeshTree, mesh_tree
from jmsnas.nas.split.general_topology import GeneralTopology
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.topology import Link, Topology, device_from_toml, link_from_toml
from jmsnas.units import parse_bytes, parse_duration

_MAX_BYTES = 1 << 24
_KEYS = ("name", "input", "policy", "inputs", "return", "fan_out", "tree", "device", "link", "layer")
_LAYER_KEYS = ("name", "bytes", "tau", "weights", "peak", "after")
_CSV_KEYS = ("layer", "bytes", "weights", "after")


def read_problem(
    path: Path, topology: GeneralTopology | None = None
) -> tuple[SplitProblem, Mapping[str, str]]:
    """Read a table of costs.

    Parameters
    ----------
    path
        A file ending in .toml, .json or .csv.
    network
        Devices and links, where the file has none (a CSV table never has).

    Returns
    -------
    The costs, and the file's own `input` and `policy` where it has them.

    Raises
    ------
    InputError
        Naming the file and what is missing, unknown or wrong in it.
    """
    readers = {
        ".toml": lambda: read_toml(path, InputError),
        ".json": lambda: _json(path),
        ".csv": lambda: _csv(path),
    }
    if path.suffix not in readers:
        raise InputError(f"cannot read {path}: expected a table ending in .toml, .json or .csv")
    document = readers[path.suffix]()
    refuse_unknown_keys(document, _KEYS, str(path), InputError)
    try:
        costs = _costs(document, path, topology)
    except KeyError as error:
        raise InputError(f"{path} lacks the key {error}: see docs/split.md") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} has a value of the wrong kind: {error}") from error
    except (UnitError, TopologyError) as error:
        raise InputError(f"{path}: {error}") from error
    return costs, {key: str(document[key]) for key in ("input", "policy") if key in document}


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES} bytes: this is no table of costs")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(document, dict):
        raise InputError(
            f"{path} holds {type(document).__name__}: expected an object with {', '.join(_KEYS)}"
        )
    return document


def _csv(path: Path) -> dict[str, Any]:
    """Read a row a layer: `layer`, `bytes`, a column of times a device; rows `input:uint8` are inputs."""
    rows = list(csv.DictReader(io.StringIO(_text(path))))
    if not rows or not {"layer", "bytes"} <= set(rows[0]):
        raise InputError(f"{path} lacks a column layer or bytes: expected layer,bytes,DEVICE,DEVICE,...")
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path} has a row that is longer or shorter than its first line")
    devices = [name for name in rows[0] if name not in _CSV_KEYS]
    inputs = {row["layer"][6:]: row["bytes"] for row in rows if row["layer"].startswith("input:")}
    layers: list[dict[str, Any]] = []
    for row in rows:
        if not row["layer"].startswith("input:"):
            layer: dict[str, Any] = {"name": row["layer"], "bytes": row["bytes"]}
            layer["tau"] = [row[name] for name in devices]
            layer |= {"weights": row["weights"]} if row.get("weights") else {}
            layer |= {"after": row["after"].split(";")} if row.get("after") else {}
            layers.append(layer)
    return {
        "name": path.stem,
        "inputs": inputs,
        "device": [{"name": name} for name in devices],
        "layer": layers,
    }


def _costs(document: Mapping[str, Any], path: Path, topology: GeneralTopology | None) -> SplitProblem:
    layers: Sequence[Mapping[str, Any]] = document["layer"]
    for entry in layers:
        refuse_unknown_keys(entry, _LAYER_KEYS, f"{path} [[layer]]", InputError)
    given = topology if "link" not in document and topology else None
    devices = (
        given.devices if given else tuple(device_from_toml(its, str(path)) for its in document["device"])
    )
    links = (
        given.links if given else tuple(link_from_toml(its, str(path)) for its in document.get("link", ()))
    )
    columns = [str(its["name"]) for its in document["device"]] if "device" in document else []
    names = [device.name for device in devices]
    if columns and sorted(columns) != sorted(names):
        raise InputError(
            f"{path} has times of {', '.join(columns)}, the network has {', '.join(names)}: expected the "
            "same. Give the network with --network, or write a TOML file with links of its own ([[link]])"
        )
    if not layers or not names or len(set(names)) < len(names):
        raise InputError(f"{path} needs one layer or more, and devices of different names")
    tau_NM = np.array([_times(entry, columns or names, path) for entry in layers])
    tau_NM = tau_NM[:, [columns.index(name) for name in names]] if columns else tau_NM
    units = tuple(str(entry["name"]) for entry in layers)
    costs = SplitProblem(
        network=str(document.get("name", path.stem)),
        units=units,
        devices=devices,
        tau_NM=tau_NM,
        low_NM=tau_NM,
        high_NM=tau_NM,
        output_bytes_N=np.array([_bytes(entry["bytes"]) for entry in layers]),
        input_bytes={str(name): _bytes(size) for name, size in document["inputs"].items()},
        links=links,
        inputs=_takes(layers, units, path),
        weight_bytes_N=np.array([_bytes(entry.get("weights", 0)) for entry in layers]),
        peak_bytes_N=np.array([_bytes(entry.get("peak", 0)) for entry in layers]),
        provenance={name: f"given in {path.name}" for name in names},
        tree=given.tree if given else _tree(document, path, devices, links),
        returns=bool(document.get("return", given.returns if given else False)),
    )
    if "tree" in document and not costs.fork:
        raise InputError(
            f"{path} has a [tree]: expected layers that fork once, into two branches or more and as many as "
            "children at most, and one layer `after` the ends of all branches"
        )
    if not costs.fork and not np.isfinite(tau_NM).all():
        raise InputError(f"{path} leaves out times: expected one a device, unless there is a [tree]")
    return costs


def _tree(
    document: Mapping[str, Any], path: Path, devices: tuple[Device, ...], links: tuple[Link, ...]
) -> MeshTree | None:
    if "tree" not in document:
        return None
    tree = document["tree"]
    refuse_unknown_keys(tree, ("root", "children"), f"{path} [tree]", InputError)
    root, children = str(tree["root"]), tuple(str(name) for name in tree["children"])
    fan_out = str(document.get("fan_out", "broadcast"))
    return mesh_tree(Topology(path.stem, devices, links, root, children, policy="relay", fan_out=fan_out))


def _times(entry: Mapping[str, Any], devices: Sequence[str], path: Path) -> list[float]:
    times = entry["tau"]
    if isinstance(times, dict):
        refuse_unknown_keys(times, devices, f"{path}: tau of layer {entry['name']}", InputError)
        return [parse_duration(str(times[name])) if name in times else math.inf for name in devices]
    if len(times) != len(devices):
        raise InputError(
            f"{path}: layer {entry['name']} has {len(times)} times, expected one for each of "
            f"{', '.join(devices)}"
        )
    return [parse_duration(str(time)) for time in times]


def _takes(
    layers: Sequence[Mapping[str, Any]], names: tuple[str, ...], path: Path
) -> tuple[tuple[int, ...], ...]:
    inputs: list[tuple[int, ...]] = []
    for n, entry in enumerate(layers):
        before = {name: k for k, name in enumerate(names[:n], 1)} | {"input": 0}
        after = entry.get("after")
        if after is None:
            inputs.append((n,))
            continue
        unknown = [str(name) for name in after if name not in before]
        if unknown or not after:
            raise InputError(
                f"{path}: layer {names[n]} comes after {', '.join(unknown) or 'nothing'}: expected `input` "
                "or layers above it"
            )
        inputs.append(tuple(dict.fromkeys(before[str(name)] for name in after)))
    return tuple(inputs)


def _bytes(value: Any) -> float:
    try:
        size = float(value)
    except ValueError:
        size = parse_bytes(value)
    if not (size >= 0 and math.isfinite(size)):
        raise InputError(f"a size of {value} bytes: expected a number of 0 or more")
    return size
