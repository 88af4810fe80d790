"""Read a split problem from a table of latencies and sizes (`--costs FILE`): TOML, JSON or CSV.

docs/split.md describes the format.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.csv_file import parse_csv
from jmsnas.errors import InputError, TopologyError, UnitError
from jmsnas.files import read_bytes, read_json, read_toml, refuse_unknown_keys, toml_errors
from jmsnas.nas.graph.fork_join import mesh_tree
from jmsnas.nas.split.general_topology import GeneralTopology
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.topology import Topology, device_from_toml, link_from_toml
from jmsnas.units import parse_bytes, parse_duration

_MAX_BYTES = 1 << 24
_CSV_KEYS = ("layer", "bytes", "weights", "after", "candidate", "score")


class CandidateEntry(msgspec.Struct, forbid_unknown_fields=True):
    """A [[layer.candidate]]; `score` is a log-probability or another number whose sum is to be large."""

    name: str
    score: float
    tau: list[str] | dict[str, str]
    weights: float | str = 0
    peak: float | str = 0


class _Layer(msgspec.Struct, forbid_unknown_fields=True):
    """A [[layer]]; sizes in bytes or as text such as 9kB, times as text such as 1.5ms.

    `tau`, `weights` and `peak` are those of the layer, or `candidate` lists those to choose from.
    """

    name: str
    bytes: float | str
    tau: list[str] | dict[str, str] | None = None
    weights: float | str = 0
    peak: float | str = 0
    after: list[str] | None = None
    join: Literal["", "sum", "concat"] = ""
    candidate: list[CandidateEntry] = []


class _Tree(msgspec.Struct, forbid_unknown_fields=True):
    """The [tree] of a mesh."""

    root: str
    children: tuple[str, ...]


class CostTable(msgspec.Struct, forbid_unknown_fields=True, rename={"returns": "return"}):
    """The whole file; devices and links are parsed as in a topology file."""

    inputs: dict[str, float | str]
    layer: list[_Layer]
    device: list[dict[str, Any]] = []
    link: list[dict[str, Any]] | None = None
    name: str | None = None
    input: str | None = None
    policy: str | None = None
    returns: bool | None = None
    fan_out: str = "broadcast"
    tree: _Tree | None = None


def read_problem(
    path: Path, topology: GeneralTopology | None = None
) -> tuple[SplitProblem, Mapping[str, str]]:
    """Read a split problem from a table: a file ending in .toml, .json or .csv.

    `topology` gives devices and links where the file has none (a CSV table never has). Returns the problem,
    and the file's own `input` and `policy` where it has them. Raises InputError, naming the file and what is
    missing, unknown or wrong in it.
    """
    table = read_cost_table(path)
    if several := next((layer for layer in table.layer if layer.candidate), None):
        raise InputError(
            f"{path}: layer {several.name} lists candidates: expected --t-const, as --t-const 80ms, which "
            "picks those of highest score with T <= that"
        )
    problem = problem_of_table(table, path, topology)
    own = {"input": table.input, "policy": table.policy}
    return problem, {key: value for key, value in own.items() if value is not None}


def read_cost_table(path: Path) -> CostTable:
    """Read a table of costs: a file ending in .toml, .json or .csv. Raises InputError."""
    if path.suffix not in (".toml", ".json", ".csv"):
        raise InputError(f"cannot read {path}: expected a table ending in .toml, .json or .csv")
    try:
        if path.suffix == ".json":
            return read_json(path, CostTable, InputError, "See docs/split.md")
        document = read_toml(path, InputError) if path.suffix == ".toml" else _read_csv(path)
        return msgspec.convert(document, CostTable)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"{path}: {error}. See docs/split.md") from error
    except UnitError as error:
        raise InputError(f"{path}: {error}") from error


def problem_of_table(table: CostTable, path: Path, topology: GeneralTopology | None = None) -> SplitProblem:
    """Make the split problem of a table without candidates. Raises as `read_problem`."""
    try:
        return _problem(table, path, topology)
    except (UnitError, TopologyError) as error:
        raise InputError(f"{path}: {error}") from error


def _read_text(path: Path) -> str:
    content = read_bytes(path, _MAX_BYTES, InputError, "a table of costs")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text: {error}") from error


def _read_csv(path: Path) -> dict[str, Any]:
    """Read one row per layer or candidate: `layer`, `bytes`, times per device; `input:uint8` is an input."""
    names = ("layer", "after", "candidate")
    table = parse_csv(_read_text(path), str(path), ("layer", "bytes"), names, InputError)
    rows = table.rows
    if not rows or not {"layer", "bytes"} <= set(table.names):
        raise InputError(f"{path} lacks a column layer or bytes: expected layer,bytes,DEVICE,DEVICE,...")
    devices = [name for name in table.names if name not in _CSV_KEYS]
    layers: list[dict[str, Any]] = []
    for row in rows:
        if row["layer"].startswith("input:"):
            continue
        costs: dict[str, Any] = {"tau": [row[name] for name in devices]}
        costs |= {"weights": row["weights"]} if row.get("weights") else {}
        layer: dict[str, Any] = {"name": row["layer"], "bytes": row["bytes"]}
        layer |= {"after": row["after"].split(";")} if row.get("after") else {}
        if not row.get("candidate"):
            layers.append(layer | costs)
            continue
        costs |= {"name": row["candidate"], "score": _score(row.get("score", ""), path, row["candidate"])}
        if not layers or layers[-1]["name"] != row["layer"] or "candidate" not in layers[-1]:
            layers.append(layer | {"candidate": []})
        elif layers[-1] | layer != layers[-1]:
            raise InputError(
                f"{path}: candidates of {row['layer']} differ in bytes or after: expected the same"
            )
        layers[-1]["candidate"].append(costs)
    return {
        "name": path.stem,
        "inputs": {row["layer"][6:]: row["bytes"] for row in rows if row["layer"].startswith("input:")},
        "device": [{"name": name} for name in devices],
        "layer": layers,
    }


def _score(text: str, path: Path, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{path}: candidate {name} has score {text!r}: expected a number") from None


def _problem(table: CostTable, path: Path, given: GeneralTopology | None) -> SplitProblem:
    columns = [str(entry.get("name")) for entry in table.device]
    topology = _own_topology(table, path) if table.link is not None or given is None else given
    names = [device.name for device in topology.devices]
    if columns and sorted(columns) != sorted(names):
        raise InputError(
            f"{path} has times of {', '.join(columns)}, the topology has {', '.join(names)}: expected the "
            "same. Choose the topology with --topology, or write a TOML file with links of its own ([[link]])"
        )
    if not table.layer or not names or len(set(names)) < len(names):
        raise InputError(f"{path} needs one layer or more, and devices of different names")
    tau_NM = np.array([_times(layer, columns or names, path) for layer in table.layer])
    tau_NM = tau_NM[:, [columns.index(name) for name in names]] if columns else tau_NM
    problem = SplitProblem(
        model=table.name or path.stem,
        units=tuple(layer.name for layer in table.layer),
        devices=topology.devices,
        tau_NM=tau_NM,
        low_NM=tau_NM,
        high_NM=tau_NM,
        output_bytes_N=_sizes([layer.bytes for layer in table.layer]),
        input_bytes=dict(zip(table.inputs, _sizes(table.inputs.values()).tolist(), strict=True)),
        links=topology.links,
        inputs=_inputs(table.layer, path),
        weight_bytes_N=_sizes([layer.weights for layer in table.layer]),
        peak_bytes_N=_sizes([layer.peak for layer in table.layer]),
        provenance={name: f"given in {path.name}" for name in names},
        tree=topology.tree,
        returns=topology.returns if table.returns is None else table.returns,
        join=_join(table.layer, path),
    )
    if table.tree and not problem.fork and not problem.is_chain:
        raise InputError(
            f"{path} has a [tree]: expected layers that fork once, into as many branches as children at most "
            f"({len(table.tree.children)}), the layers of one branch after another, and one layer `after` "
            "the ends of all branches; or a chain of layers"
        )
    if not problem.tree and not np.isfinite(tau_NM).all():
        raise InputError(f"{path} leaves out times: expected one per device, unless there is a [tree]")
    return problem


def _join(layers: Sequence[_Layer], path: Path) -> str:
    """Read how the layer with a `join` combines its inputs: sum or concatenation."""
    joins = [layer for layer in layers if layer.join]
    if len(joins) > 1 or any(len(layer.after or ()) < 2 for layer in joins):
        raise InputError(
            f"{path}: layer {joins[-1].name} has a `join`: expected one layer with it at most, which comes "
            "`after` the ends of several branches"
        )
    return joins[0].join if joins else ""


def _own_topology(table: CostTable, path: Path) -> GeneralTopology:
    with toml_errors(str(path), TopologyError):
        devices = tuple(device_from_toml(entry, str(path)) for entry in table.device)
        links = tuple(link_from_toml(entry, str(path)) for entry in table.link or ())
    if table.tree is None:
        return GeneralTopology(devices, links)
    mesh = Topology(
        name=path.stem,
        devices=devices,
        links=links,
        root=table.tree.root,
        children=table.tree.children,
        policy="relay",
        fan_out=table.fan_out,
    )
    return GeneralTopology(devices, links, tree=mesh_tree(mesh))


def _times(layer: _Layer, devices: Sequence[str], path: Path) -> list[float]:
    if layer.tau is None:
        raise InputError(f"{path}: layer {layer.name} has no times: expected tau, or [[layer.candidate]]")
    if isinstance(layer.tau, dict):
        refuse_unknown_keys(layer.tau, devices, f"{path}: tau of layer {layer.name}", InputError)
        return [parse_duration(layer.tau[name]) if name in layer.tau else math.inf for name in devices]
    if len(layer.tau) != len(devices):
        raise InputError(
            f"{path}: layer {layer.name} has {len(layer.tau)} times, expected one for each of "
            f"{', '.join(devices)}"
        )
    return [parse_duration(time) for time in layer.tau]


def _inputs(layers: Sequence[_Layer], path: Path) -> tuple[tuple[int, ...], ...]:
    """Outputs that each layer reads, by number; without `after` that of the layer above."""
    found: list[tuple[int, ...]] = []
    known = {"input": 0}
    for n, layer in enumerate(layers):
        if layer.after is None:
            found.append((n,))
        else:
            unknown = [name for name in layer.after if name not in known]
            if unknown or not layer.after:
                raise InputError(
                    f"{path}: layer {layer.name} comes after {', '.join(unknown) or 'nothing'}: expected "
                    "`input` or layers above it"
                )
            found.append(tuple(dict.fromkeys(known[name] for name in layer.after)))
        known = {**known, layer.name: n + 1, "input": 0}
    return tuple(found)


def _sizes(values: Iterable[float | str]) -> FloatArray:
    return np.array([_size(value) for value in values], dtype=float)


def _size(value: float | str) -> float:
    try:
        size = float(value)
    except ValueError:
        size = parse_bytes(str(value))
    if not (size >= 0 and math.isfinite(size)):
        raise InputError(f"a size of {size:g} bytes: expected a number of 0 or more")
    return size
