"""What a page about a run says, read from the run's folder and checked before anything is drawn."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jmsnas.cost import cost
from jmsnas.device import Device
from jmsnas.errors import InputError
from jmsnas.estimators.evaluate import Evaluation
from jmsnas.estimators.store import TABLE, Estimator, load_estimator
from jmsnas.nas.config import SearchConfig
from jmsnas.nas.placement import Term
from jmsnas.nas.run_folder import read_log, read_result
from jmsnas.nas.stages import Epoch
from jmsnas.nas.target import Target
from jmsnas.network import INPUT_BYTES, Link
from jmsnas.profiler.parquet import read_table
from jmsnas.profiler.simulated import serving_key
from jmsnas.profiler.table import LatencyTable
from jmsnas.space import Block, Candidate, SearchSpace
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """A network's operations, its T in seconds, and every term of equation (1)."""

    candidates: tuple[Candidate, ...]
    latency_s: float
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device of the run and what its latencies rest on.

    Attributes
    ----------
    simulated, unseen_mape
        As the run wrote them down: whether any row was simulated, and U(.)'s MAPE on unseen geometries.
    estimator, table
        U(.) and its rows as the workspace has them now; None where it has none.
    trouble
        Why there is none, or in what it differs from the run's; empty where nothing is to be said.
    """

    device: Device
    simulated: bool
    unseen_mape: float
    estimator: Estimator | None
    table: LatencyTable | None
    trouble: str

    @property
    def evaluation(self) -> Evaluation | None:
        """How good U(.) is on geometries it never saw."""
        return self.estimator.evaluation if self.estimator else None


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """A layer of the derived network: `tau_s`, its 95 or 90 % interval and `basis` are empty without U(.)."""

    number: int
    geometry: str
    candidate: Candidate
    device: str
    tau_s: float | None
    low_s: float | None
    high_s: float | None
    basis: str
    macs: int | None


@dataclass(frozen=True, slots=True)
class Facts:
    """A finished run; `document` and `config` are its files as they are, the rest is read from them."""

    document: dict[str, Any]
    config: dict[str, Any]
    settings: SearchConfig
    epochs: tuple[Epoch, ...]
    devices: tuple[DeviceFacts, ...]
    links: tuple[Link, ...]
    target: Target
    derived: Plan
    argmax: Plan
    cloud_s: float
    input_bytes: float
    layers: tuple[LayerFacts, ...]

    @property
    def simulated(self) -> tuple[str, ...]:
        """Names of the simulated devices, in order."""
        return tuple(d.device.name for d in self.devices if d.simulated)

    def cloud_terms(self, input_encoding: str) -> tuple[Term, ...]:
        """Terms of equation (1) when the raw input, encoded so, is sent to the last device and run there."""
        own = INPUT_BYTES[str(self.document["network"]["input"])]
        sent_bytes = self.input_bytes / own * INPUT_BYTES[input_encoding]
        tau_s = self.cloud_s - sum(link.epsilon_s(self.input_bytes) for link in self.links)
        relays = tuple(Term(k.source, (), 0.0, k.epsilon_s(sent_bytes), sent_bytes) for k in self.links)
        everything = tuple(range(1, len(self.derived.candidates) + 1))
        return (*relays, Term(self.devices[-1].device.name, everything, tau_s, 0.0, 0.0))


def read_facts(place: Workspace, folder: Path) -> Facts:
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
        folder / "config.json", lambda: _object(json.loads((folder / "config.json").read_bytes()))
    )
    epochs = _checked(folder / "log.jsonl", lambda: tuple(Epoch(**line) for line in read_log(folder)))
    return _checked(folder / "result.json", lambda: _facts(place, document, config, epochs))


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
    place: Workspace, document: dict[str, Any], config: dict[str, Any], epochs: tuple[Epoch, ...]
) -> Facts:
    json.dumps(document, allow_nan=False)  # the page holds it as JSON, which has no NaN
    derived, network, cloud = document["derived"], document["network"], document["cloud_only"]
    target = Target(*(_number(document["target"][k]) for k in ("t_const_s", "fastest_s", "slowest_s")))
    if network["tree"]["children"]:
        again = f"jmsnas split {document['name']} --explain"
        raise InputError(
            f"run {document['name']} is of a mesh, jmsnas report draws chains. See it with: {again}"
        )
    devices = tuple(_device(place, entry) for entry in network["devices"])
    _number(document["macs"] + document["parameters"] + document["accuracy"]["test"])
    plan, names = _plan(derived), [facts.device.name for facts in devices]
    links = tuple(Link(**link) for link in network["links"])
    for of_plan in (plan, argmax := _plan(document["argmax"])):
        if [term.device for term in of_plan.terms] != names or len(links) != len(names) - 1:
            raise ValueError(f"expected a term for each of {', '.join(names)}, and a link between neighbours")
    return Facts(
        document=document,
        config=config,
        settings=SearchConfig(**{name: config[name] for name in SearchConfig.__slots__}),
        epochs=epochs,
        devices=devices,
        links=links,
        target=target,
        derived=plan,
        argmax=argmax,
        cloud_s=_number(cloud["latency_s"]),
        input_bytes=_number(cloud["input_bytes"]),
        layers=_layers(plan, document["space"], _space(place, document["space"]), devices),
    )


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    return float(value)


def _plan(entry: dict[str, Any]) -> Plan:
    terms = tuple(
        Term(
            str(term["device"]),
            tuple(int(n) for n in term["layers"]),
            *(_number(term[name]) for name in ("tau_s", "epsilon_s", "sent_bytes")),
        )
        for term in entry["terms"]
    )
    candidates = tuple(Candidate.parse(name) for name in entry["candidates"])
    if [n for term in terms for n in term.layers] != list(range(1, len(candidates) + 1)):
        raise ValueError(f"the terms do not hold each of {len(candidates)} layers once, in order")
    return Plan(candidates, _number(entry["latency_s"]), terms)


def _device(place: Workspace, entry: dict[str, Any]) -> DeviceFacts:
    name, table_name, role, runtime = (str(entry[key]) for key in ("name", "table", "role", "runtime"))
    device = Device(name, table_name, role, runtime)
    simulated, mape = bool(entry["simulated"]), _number(entry["unseen_mape"])
    try:
        table_now = place.table(table_name)
        keys = read_table(table_now).keys if table_now.exists() else ()
        folder = place.estimator(table_name, serving_key(table_name, runtime, keys).label)
        estimator, table = load_estimator(folder), read_table(folder / TABLE)
    except InputError as error:
        return DeviceFacts(device, simulated, mape, None, None, str(error))
    same = estimator.simulated == simulated and math.isclose(estimator.evaluation.model.mape, mape)
    trouble = "" if same else "U(.) was fitted to other rows since this run: its errors here are the new ones"
    return DeviceFacts(device, simulated, mape, estimator, table, trouble)


def _space(place: Workspace, entry: dict[str, Any]) -> SearchSpace | None:
    """Load the run's space, if it can be had and is still what the run searched."""
    try:
        space = load_space(str(entry["name"]), place.spaces)
    except InputError:
        return None
    return space if [str(layer) for layer in space.layers] == entry["layers"] else None


def _layers(
    plan: Plan, entry: dict[str, Any], space: SearchSpace | None, devices: tuple[DeviceFacts, ...]
) -> tuple[LayerFacts, ...]:
    by_name, found = {facts.device.name: facts for facts in devices}, []
    for term in plan.terms:
        facts = by_name[term.device]
        for n in term.layers:
            geometry, candidate = str(entry["layers"][n - 1]), plan.candidates[n - 1]
            block = Block(candidate, space.layers[n - 1]) if space else None
            found.append(_layer(n, geometry, candidate, facts, block))
    return tuple(found)


def _layer(
    number: int, geometry: str, candidate: Candidate, facts: DeviceFacts, block: Block | None
) -> LayerFacts:
    name, estimator = facts.device.name, facts.estimator
    macs = cost(block).macs if block else None
    if not (block and estimator):
        return LayerFacts(number, geometry, candidate, name, None, None, None, "", macs)
    low_s, high_s = estimator.interval_s([block])
    row = estimator.rows.get(block)
    basis = f"{row.kind} row" if row else "predicted"
    tau_s = float(estimator.predict_s([block])[0])
    return LayerFacts(
        number, geometry, candidate, name, tau_s, float(low_s[0]), float(high_s[0]), basis, macs
    )
