"""What a page about a run says, read from the run's folder and checked before anything is drawn."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jmsnas.errors import InputError
from jmsnas.nas.derivation.target import LatencyTarget
from jmsnas.nas.graph.fork_join import MeshTree
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.run_folder import read_log, read_result
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.split.links import link_arrays
from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.report.device_data import DeviceData, LayerData, layer_data, number, read_device_data
from jmsnas.report.term_schedule import ScheduledTerm, shares
from jmsnas.space import Block, Candidate, SearchSpace
from jmsnas.space_file import load_space
from jmsnas.topology import INPUT_BYTES, Link
from jmsnas.workspace import Workspace

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlacedModel:
    """A network's operations, its T in seconds, every term of equation (1) or (2), and these in time."""

    candidates: tuple[Candidate, ...]
    latency_s: float
    terms: tuple[LatencyTerm, ...]
    shares: tuple[ScheduledTerm, ...]


@dataclass(frozen=True, slots=True)
class ReportData:
    """A finished run; `document` and `config` are its files as they are, the rest is read from them.

    `tree` is that of a mesh, None of a chain; `back_s` the seconds from the last device back to the first,
    where the result goes back.
    """

    document: dict[str, Any]
    config: dict[str, Any]
    settings: SearchConfig
    epochs: tuple[EpochRecord, ...]
    devices: tuple[DeviceData, ...]
    links: tuple[Link, ...]
    tree: MeshTree | None
    back_s: float
    target: LatencyTarget
    derived: PlacedModel
    argmax: PlacedModel
    cloud_s: float
    input_bytes: float
    layers: tuple[LayerData, ...]

    @property
    def simulated(self) -> tuple[str, ...]:
        """Names of the simulated devices, in order."""
        return tuple(d.device.name for d in self.devices if d.simulated)

    @property
    def published(self) -> tuple[str, ...]:
        """Names of the devices that tables published by others speak for, in order."""
        return tuple(d.device.name for d in self.devices if d.published)

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the devices that were measured, in order."""
        return tuple(d.device.name for d in self.devices if d.origin == "measured")

    @property
    def origins(self) -> dict[str, str]:
        """What each device rests on (`jmsnas.origin`), by its name."""
        return {d.device.name: d.origin for d in self.devices}

    @property
    def equation(self) -> str:
        """Number of the paper's equation for T."""
        return "(2)" if self.tree else "(1)"

    def cloud_way(self, input_encoding: str) -> tuple[Link, ...]:
        """Links by which the raw input, encoded so, is the soonest with the last device."""
        own = INPUT_BYTES[str(self.document["network"]["input"])]
        sent_bytes = self.input_bytes / own * INPUT_BYTES[input_encoding]
        names = [facts.device.name for facts in self.devices]
        way = link_arrays(names, self.links).route(0, len(names) - 1, sent_bytes, True)
        hops = {(link.source, link.target): link for link in self.links}
        return tuple(hops[names[a], names[b]] for a, b in itertools.pairwise(way))

    def cloud_terms(self, input_encoding: str) -> tuple[LatencyTerm, ...]:
        """Terms when the raw input, encoded so, is sent to the last device and all is run there."""
        own = str(self.document["network"]["input"])
        sent_bytes = self.input_bytes / INPUT_BYTES[own] * INPUT_BYTES[input_encoding]
        sending_s = sum(link.epsilon_s(self.input_bytes) for link in self.cloud_way(own))
        tau_s = self.cloud_s - sending_s - self.back_s
        way = self.cloud_way(input_encoding)
        relays = tuple(LatencyTerm(k.source, (), 0.0, k.epsilon_s(sent_bytes), sent_bytes) for k in way)
        everything = tuple(range(1, len(self.derived.candidates) + 1))
        last = self.devices[-1].device.name
        return (*relays, LatencyTerm(last, everything, tau_s, 0.0, 0.0, return_s=self.back_s))


def read_report_data(workspace: Workspace, folder: Path) -> ReportData:
    """Read a finished run.

    Parameters
    ----------
    place
        The workspace whose estimators are shown beside the run.
    folder
        The run's folder.

    Raises
    ------
    InputError
        When the folder holds no finished run, or a file of it is damaged.
    """
    document = read_result(folder)
    config = _checked(
        folder / "config.json", lambda: _config(json.loads((folder / "config.json").read_bytes()))
    )
    epochs = _checked(folder / "log.jsonl", lambda: tuple(EpochRecord(**line) for line in read_log(folder)))
    return _checked(folder / "result.json", lambda: _facts(workspace, document, config, epochs))


def _checked(path: Path, read: Callable[[], T]) -> T:
    again = "Run the search again: jmsnas search --topology chain"
    try:
        return read()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}. {again}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        what = f"{type(error).__name__} {error}"
        raise InputError(f"{path} is damaged, or not of a run ({what}). {again}") from error


def _facts(
    workspace: Workspace, document: dict[str, Any], config: dict[str, Any], epochs: tuple[EpochRecord, ...]
) -> ReportData:
    json.dumps(document, allow_nan=False)  # the page holds it as JSON, which has no NaN
    network, cloud = document["network"], document["cloud_only"]
    target = LatencyTarget(*(number(document["target"][k]) for k in ("t_const_s", "fastest_s", "slowest_s")))
    devices = tuple(read_device_data(workspace, entry) for entry in network["devices"])
    number(document["macs"] + document["parameters"] + document["accuracy"]["test"])
    links, tree = tuple(Link(**link) for link in network["links"]), _tree(network["tree"])
    names, geometries = [facts.device.name for facts in devices], document["space"]["layers"]
    plan, argmax = (_plan(document[key], names, links, tree, geometries) for key in ("derived", "argmax"))
    space = _space(workspace, document["space"], len(tree.children) if tree else 0)
    return ReportData(
        document=document,
        config=config,
        settings=SearchConfig(**{name: config[name] for name in SearchConfig.__slots__}),
        epochs=epochs,
        devices=devices,
        links=links,
        tree=tree,
        back_s=_back_s(document, names, links, plan) if network.get("returns") else 0.0,
        target=target,
        derived=plan,
        argmax=argmax,
        cloud_s=number(cloud["latency_s"]),
        input_bytes=number(cloud["input_bytes"]),
        layers=layer_data(plan.candidates, plan.terms, geometries, space, devices),
    )


def _config(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    missing = {"space", "dataset", "network"} - value.keys()
    if missing:
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    return value


def _tree(entry: dict[str, Any]) -> MeshTree | None:
    children = tuple(str(name) for name in entry["children"])
    return MeshTree(str(entry["root"]), children, str(entry["fan_out"])) if children else None


def _plan(
    entry: dict[str, Any],
    names: list[str],
    links: tuple[Link, ...],
    tree: MeshTree | None,
    geometries: list[str],
) -> PlacedModel:
    terms = tuple(_term(term) for term in entry["terms"])
    candidates = tuple(Candidate.parse(name) for name in entry["candidates"])
    every = [n for term in terms for n in term.layers]
    if (sorted(every) if tree else every) != list(range(1, len(candidates) + 1)):
        raise ValueError(f"the terms do not hold each of {len(candidates)} layers once, in order")
    if [term.device for term in terms] != names or (not tree and len(links) != len(names) - 1):
        raise ValueError(f"expected a term for each of {', '.join(names)}, and a link between neighbours")
    forked = 0
    if tree:
        first = min(n for term in terms if term.device in tree.children for n in term.layers)
        forked = _elements(candidates, geometries, first - 2)
    latency_s, laid_out = number(entry["latency_s"]), shares(terms, links, tree, forked)
    return PlacedModel(candidates, latency_s, terms, laid_out)


def _term(entry: dict[str, Any]) -> LatencyTerm:
    layers = tuple(int(n) for n in entry["layers"])
    times = (number(entry[name]) for name in ("tau_s", "epsilon_s", "sent_bytes"))
    others = (number(entry.get(name, 0.0)) for name in ("epsilon_root_s", "return_s"))
    return LatencyTerm(str(entry["device"]), layers, *times, *others)


def _elements(candidates: tuple[Candidate, ...], geometries: list[str], place: int) -> int:
    """Numbers in the output of the layer at a place."""
    return Block.parse(f"{candidates[place].name} {geometries[place]}").layer.output_elements


def _back_s(document: dict[str, Any], names: list[str], links: tuple[Link, ...], plan: PlacedModel) -> float:
    """Seconds from the last device back to the first: over the same links, the other way."""
    elements = _elements(plan.candidates, document["space"]["layers"], len(plan.candidates) - 1)
    return float(link_arrays(names, links).routed_MM(4.0 * elements)[0][0, -1])


def _space(workspace: Workspace, entry: dict[str, Any], branches: int) -> SearchSpace | None:
    """Load the run's space, if it can be had and is still what the run searched."""
    try:
        space = load_space(str(entry["name"]), workspace.spaces, branches)
    except InputError:
        return None
    return space if [str(layer) for layer in space.layers] == entry["layers"] else None
