"""Compare searched models with MobileNets under other split methods (Fig. 5 and Fig. 6 of the paper).

Accuracies are of models trained here on the same images, with the same recipe and epochs; None otherwise.
Cloud only runs every layer of the model searched for a chain in the cloud, as in section V-B.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from jmsnas import mobilenets
from jmsnas.cost import cost
from jmsnas.errors import InputError, JmsnasError
from jmsnas.nas.graph.fork_join import find_fork_join
from jmsnas.nas.graph.model import model_of_part
from jmsnas.nas.load_model import model_of_run, topology_of_run
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.run_folder import read_log, read_result
from jmsnas.nas.split.general_topology import GeneralTopology
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.problem_of_model import problem_of_model
from jmsnas.origin import origin_label, origin_of
from jmsnas.topology import WIRE_BYTES
from jmsnas.workspace import Workspace

BASELINE_METHODS = ("hivemind", "neurosurgeon", "device")
# Image size of the paper; only latencies are compared at it.
PAPER_SIZE = 224


@dataclass(frozen=True, slots=True)
class ComparisonEntry:
    """One model under one split method; unknown values are None, with the reason in `missing`.

    `accuracy` is of the test images, `sent_bytes` of all links, `energy_j` of the devices with a known power.
    `t_const_s` is the latency target of a searched model, `run` the name of its run. `simulated` and
    `published` tell whether any device of T has simulated latencies, or those of a published table.
    """

    network: str
    method: str
    topology: str
    size: int
    accuracy: float | None
    latency_s: float | None
    sent_bytes: float | None
    parameters: int
    macs: int
    energy_j: float | None
    simulated: bool
    t_const_s: float | None = None
    run: str = ""
    missing: str = ""
    published: bool = False

    @property
    def marks(self) -> str:
        """Label of T: `SIMULATED, published`, one of them, or empty."""
        given = {"simulated": self.simulated, "published": self.published}
        return ", ".join(origin_label(origin) for origin, given_here in given.items() if given_here)


@dataclass(frozen=True, slots=True)
class SearchedRun:
    """A finished run as it is compared: its folder, result, configuration, and epochs."""

    folder: Path
    document: dict[str, Any]
    config: dict[str, Any]
    epochs: tuple[dict[str, Any], ...]

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def topology(self) -> str:
        """`mesh` where the topology has a tree, else `chain`."""
        return "mesh" if self.document["network"].get("tree", {}).get("root") else "chain"

    @property
    def total_epochs(self) -> int:
        """Epochs in which weights were trained, of both stages."""
        return sum(int(self.config[f"{stage}_epochs"]) for stage in ("warmup", "search", "final"))

    @property
    def simulated(self) -> bool:
        """Whether any device is simulated."""
        return "simulated" in self.origins

    @property
    def published(self) -> bool:
        """Whether any device is of a table that others published."""
        return "published" in self.origins

    @property
    def origins(self) -> frozenset[str]:
        """What the devices rest on (`jmsnas.origin`)."""
        return frozenset(origin_of(device) for device in self.document["network"]["devices"])


def read_run(folder: Path) -> SearchedRun:
    """Read a finished run. Raises InputError."""
    import json

    document = read_result(folder)
    try:
        config = json.loads((folder / "config.json").read_bytes())
        run = SearchedRun(folder, document, config, tuple(read_log(folder)))
        run.total_epochs, run.origins, run.topology  # noqa: B018 - asked here, so that a damaged run is told
        return run
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} is damaged ({type(error).__name__} {error}): search again") from error


def refuse_incomparable(runs: Sequence[SearchedRun]) -> None:
    """Refuse runs that differ in data set, epochs or seed. Raises InputError."""
    if not runs:
        raise InputError("nothing to compare: expected one finished run or more. Run: jmsnas search")
    for what, values in (
        ("data set", {run.document["dataset"] for run in runs}),
        ("epochs", {str(run.total_epochs) for run in runs}),
        ("seed", {str(run.config["seed"]) for run in runs}),
    ):
        if len(values) > 1:
            raise InputError(f"the runs differ in {what} ({', '.join(sorted(values))}): expected one for all")


def searched_entries(run: SearchedRun) -> list[ComparisonEntry]:
    """Make the entry of a run and, on a chain, that of the same model as cloud only."""
    document, derived = run.document, run.document["derived"]
    terms = derived["terms"]
    energies = [term.get("energy_j") for term in terms]
    common = {
        "topology": run.topology,
        "size": input_shape_and_classes(run)[0][1],
        "accuracy": document["accuracy"]["test"],
        "parameters": document["parameters"],
        "macs": document["macs"],
        "simulated": run.simulated,
        "published": run.published,
        "t_const_s": document["target"]["t_const_s"],
        "run": run.name,
    }
    sent = float(sum(term["sent_bytes"] for term in terms)) + _fanned_out_bytes(run)
    known = [energy for energy in energies if energy is not None]
    energy_j = float(sum(known)) if any(known) else None
    found = [
        ComparisonEntry(
            "JMSNAS", "searched", latency_s=derived["latency_s"], sent_bytes=sent, energy_j=energy_j, **common
        )
    ]
    if run.topology == "chain":
        cloud, links = document["cloud_only"], len(document["network"]["links"])
        sent = float(cloud["input_bytes"]) * links
        found.append(
            ComparisonEntry(
                "JMSNAS", "cloud", latency_s=cloud["latency_s"], sent_bytes=sent, energy_j=None, **common
            )
        )
    return found


def _fanned_out_bytes(run: SearchedRun) -> float:
    """Bytes from the root of a mesh to the children that run a branch; terms hold only its seconds."""
    topology = topology_of_run(run.document, run.folder)
    units = model_of_run(run.document, run.folder).units
    fork = find_fork_join([unit.inputs for unit in units])
    if fork is None or topology.tree is None:
        return 0.0
    used = {term["device"] for term in run.document["derived"]["terms"] if term["layers"]}
    ways = [k for k in topology.links if k.source == topology.tree.root and k.target in used]
    return float(sum(WIRE_BYTES[k.wire] * units[fork.trunk[-1]].output_elements for k in ways))


def resized_entries(workspace: Workspace, run: SearchedRun, size: int = PAPER_SIZE) -> list[ComparisonEntry]:
    """Make the entries of a run's operations at another image size; on a chain, cloud only too."""
    topology, document = topology_of_run(run.document, run.folder), run.document
    model = model_of_run(document, run.folder, size)
    base = ComparisonEntry(
        network="JMSNAS",
        method="searched",
        topology=run.topology,
        size=size,
        accuracy=None,
        latency_s=None,
        sent_bytes=None,
        parameters=model.parameters,
        macs=model.macs,
        energy_j=None,
        simulated=run.simulated,
        t_const_s=document["target"]["t_const_s"],
        run=run.name,
        published=run.published,
    )
    methods = {"searched": "optimal"} | ({"cloud": "cloud"} if run.topology == "chain" else {})
    try:
        problem = problem_of_model(model, topology.devices, topology.links, workspace)
        problem = replace(problem, tree=topology.tree, returns=topology.returns)
        return [
            _under(replace(base, method=name), problem, topology, method) for name, method in methods.items()
        ]
    except JmsnasError as error:
        return [replace(base, method=name, missing=str(error)) for name in methods]


def _under(
    base: ComparisonEntry, problem: SplitProblem, topology: GeneralTopology, method: str
) -> ComparisonEntry:
    """Fill in T, bytes and energy of a method; baselines may relay, `device` keeps its result."""
    policies = {"optimal": topology.policy, "device": "stop-early"}
    request = SplitRequest(topology.input_encoding, policies.get(method, "relay"), method=method)
    timeline = split(problem, request).timeline
    sent = float(sum(step.sent_bytes for step in timeline.steps))
    return replace(base, latency_s=timeline.latency_s, sent_bytes=sent, energy_j=timeline.energy_j)


def mobilenet_entries(
    workspace: Workspace,
    run: SearchedRun,
    shape: tuple[int, int, int],
    classes: int,
    accuracies: dict[str, float],
) -> list[ComparisonEntry]:
    """Make the entries of every MobileNet under every baseline method on the devices of a chain run."""
    topology, found = topology_of_run(run.document, run.folder), []
    for name in mobilenets.NAMES:
        part = mobilenets.mobilenet(name, shape, classes)
        totals = cost(part)
        base = ComparisonEntry(
            network=name,
            method="",
            topology="chain",
            size=shape[1],
            accuracy=accuracies.get(name),
            latency_s=None,
            sent_bytes=None,
            parameters=totals.parameters,
            macs=totals.macs,
            energy_j=None,
            simulated=run.simulated,
            published=run.published,
        )
        try:
            problem = problem_of_model(
                model_of_part(part, name, ""), topology.devices, topology.links, workspace
            )
            problem = replace(problem, returns=topology.returns)
        except JmsnasError as error:
            found += [replace(base, method=method, missing=str(error)) for method in BASELINE_METHODS]
            continue
        found += [
            _under(replace(base, method=method), problem, topology, method) for method in BASELINE_METHODS
        ]
    return found


def training_config(run: SearchedRun) -> SearchConfig:
    """Configuration to train a MobileNet: the run's recipe, with all of its epochs as one stage."""
    names = {its.name for its in fields(SearchConfig)}
    given = {key: value for key, value in run.config.items() if key in names}
    return SearchConfig(**{**given, "warmup_epochs": 0, "search_epochs": 0, "final_epochs": run.total_epochs})


def input_shape_and_classes(run: SearchedRun) -> tuple[tuple[int, int, int], int]:
    """Input shape and number of classes of a run's search space. Raises InputError."""
    model = model_of_run(run.document, run.folder)
    channels, height, width = model.input_shape
    return (channels, height, width), model.units[-1].output_elements
