"""Compare searched models with MobileNets under other split methods (Fig. 5 and Fig. 6 of the paper).

Accuracies are of models trained here on the same images, with the same recipe and epochs; None otherwise.
Cloud only runs every layer of the model searched for a chain in the cloud, as in section V-B.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from jmsnas import mobilenets
from jmsnas.errors import InputError, JmsnasError
from jmsnas.nas.graph.fork_join import find_fork_join
from jmsnas.nas.graph.model import Model, model_of_part
from jmsnas.nas.load_model import model_of_run
from jmsnas.nas.run_result import RunResult, read_result
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.run_folder import RunConfig, read_config, read_log
from jmsnas.nas.search.split_options import SplitOptions
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.split.general_topology import GeneralTopology, general_topology
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.problem_of_model import problem_of_model
from jmsnas.origin import origin_label
from jmsnas.topology import WIRE_BYTES, Topology
from jmsnas.workspace import Workspace

BASELINE_METHODS = ("hivemind", "neurosurgeon", "device")
# Image size of the paper; only latencies are compared at it.
PAPER_SIZE = 224


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonEntry:
    """One model under one split method; unknown values are None, with the reason in `missing`.

    `accuracy` is of the test images, `sent_bytes` of all links, `energy_j` of the devices with a known power.
    `t_const_s` is the latency target of a searched model, `run` the name of its run. `simulated` and
    `published` tell whether any device that runs layers has simulated latencies, or those of a published
    table, `extrapolated` whether any has blocks outside the training range of its U(.).
    """

    network: str
    method: str
    topology: str
    size: int
    accuracy: float | None = None
    latency_s: float | None = None
    sent_bytes: float | None = None
    parameters: int
    macs: int
    energy_j: float | None = None
    simulated: bool = False
    t_const_s: float | None = None
    run: str = ""
    missing: str = ""
    published: bool = False
    extrapolated: bool = False

    @property
    def marks(self) -> str:
        """Label of T: `SIMULATED, published, extrapolated`, some of them, or empty."""
        known = {"simulated": self.simulated, "published": self.published}
        labels = [origin_label(origin) for origin, holds in known.items() if holds]
        return ", ".join([*labels, *["extrapolated"] * self.extrapolated])


@dataclass(frozen=True, slots=True)
class SearchedRun:
    """A finished run to compare: its result, configuration, and epochs."""

    result: RunResult
    config: RunConfig
    epochs: tuple[EpochRecord, ...]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.result.folder.name

    @property
    def topology(self) -> str:
        """`mesh` where the topology has a tree, else `chain`."""
        return "mesh" if self.result.topology.root else "chain"

    @property
    def total_epochs(self) -> int:
        """Epochs in which weights were trained, of both stages."""
        return self.config.warmup_epochs + self.config.search_epochs + self.config.final_epochs

    @property
    def used(self) -> set[str]:
        """Devices that run layers of its model."""
        return {term.device for term in self.result.derived.terms if term.layers}

    @property
    def simulated(self) -> bool:
        """Whether any of these is simulated."""
        return self.has("simulated", self.used)

    @property
    def published(self) -> bool:
        """Whether U(.) of any of these was fitted to a table that others published."""
        return self.has("published", self.used)

    def has(self, origin: str, devices: Collection[str]) -> bool:
        """Whether the latencies of any of these devices have this origin."""
        return any(self.result.origins[device] == origin for device in devices)


def read_run(folder: Path) -> SearchedRun:
    """Read a finished run. Raises InputError."""
    return SearchedRun(read_result(folder), read_config(folder), read_log(folder))


def refuse_incomparable(runs: Sequence[SearchedRun]) -> None:
    """Refuse runs that differ in data set, epochs or seed. Raises InputError."""
    if not runs:
        raise InputError("nothing to compare: expected one finished run or more. Run: jmsnas search")
    for what, values in (
        ("data set", {run.result.dataset for run in runs}),
        ("epochs", {str(run.total_epochs) for run in runs}),
        ("seed", {str(run.config.seed) for run in runs}),
    ):
        if len(values) > 1:
            raise InputError(f"the runs differ in {what} ({', '.join(sorted(values))}): expected one for all")


def searched_over(run: SearchedRun, topology: Topology) -> bool:
    """Whether a run was searched for these devices and links, under any options on the split."""
    options = SplitOptions(policy="relay", input_encoding="uint8", min_layers=0)
    own, other = (options.apply_to(replace(each, name="")) for each in (run.result.topology, topology))
    return own == other


def searched_entries(run: SearchedRun) -> list[ComparisonEntry]:
    """Make the entry of a run and, on a chain, that of the same model as cloud only."""
    result, terms = run.result, run.result.derived.terms
    energies = [term.energy_j for term in terms if term.energy_j is not None]
    searched = replace(
        _searched_entry(run, input_shape_and_classes(run)[0][1], result),
        accuracy=result.accuracy.test,
        latency_s=result.derived.latency_s,
        simulated=run.simulated,
        published=run.published,
        sent_bytes=sum(term.sent_bytes for term in terms) + _fanned_out_bytes(run),
        energy_j=float(sum(energies)) if any(energies) else None,
    )
    if run.topology == "mesh":
        return [searched]
    cloud, links = result.cloud_only, len(result.topology.links)
    sent = cloud.input_bytes * links
    last = {result.topology.devices[-1].name}
    cloud_only = replace(
        searched,
        method="cloud",
        latency_s=cloud.latency_s,
        sent_bytes=sent,
        energy_j=None,
        simulated=run.has("simulated", last),
        published=run.has("published", last),
    )
    return [searched, cloud_only]


def _searched_entry(run: SearchedRun, size: int, counts: RunResult | Model) -> ComparisonEntry:
    return ComparisonEntry(
        network="JMSNAS",
        method="searched",
        topology=run.topology,
        size=size,
        parameters=counts.parameters,
        macs=counts.macs,
        t_const_s=run.result.target.t_const_s,
        run=run.name,
    )


def _fanned_out_bytes(run: SearchedRun) -> float:
    """Bytes from the root of a mesh to the children that run a branch; terms hold only its seconds."""
    topology, units = run.result.topology, model_of_run(run.result).units
    fork = find_fork_join([unit.inputs for unit in units])
    if fork is None or not topology.root:
        return 0.0
    used = {term.device for term in run.result.derived.terms if term.layers}
    links = [k for k in topology.links if k.source == topology.root and k.target in used]
    return float(sum(WIRE_BYTES[k.wire] * units[fork.trunk[-1]].output_elements for k in links))


def resized_entries(workspace: Workspace, run: SearchedRun, size: int = PAPER_SIZE) -> list[ComparisonEntry]:
    """Make the entries of a run's operations at another image size; on a chain, cloud only too."""
    topology, model = general_topology(run.result.topology), model_of_run(run.result, size)
    base = _searched_entry(run, size, model)
    methods = {"searched": "optimal"} | ({"cloud": "cloud"} if run.topology == "chain" else {})
    return _method_entries(workspace, model, topology, base, methods)


def _method_entries(
    workspace: Workspace,
    model: Model,
    topology: GeneralTopology,
    base: ComparisonEntry,
    methods: Mapping[str, str],
) -> list[ComparisonEntry]:
    """Fill in `base` for methods of `split`, by their names in the table; a failure is its `missing`."""
    entries = [replace(base, method=name) for name in methods]
    try:
        problem = problem_of_model(model, topology, workspace, extrapolate=True)
    except JmsnasError as error:
        return [replace(entry, missing=str(error)) for entry in entries]
    return [_under(entry, problem, topology, methods[entry.method]) for entry in entries]


def _under(
    base: ComparisonEntry, problem: SplitProblem, topology: GeneralTopology, method: str
) -> ComparisonEntry:
    """Fill in T, bytes and energy of a method; baselines may relay, `device` keeps its result."""
    policies = {"optimal": topology.policy, "device": "stop-early"}
    request = SplitRequest(topology.input_encoding, policies.get(method, "relay"), method=method)
    try:
        timeline = split(problem, request).timeline
    except JmsnasError as error:
        return replace(base, missing=str(error))
    sent = float(sum(step.sent_bytes for step in timeline.steps))
    used = {step.device for step in timeline.steps if not step.target}
    return replace(
        base,
        latency_s=timeline.latency_s,
        sent_bytes=sent,
        energy_j=timeline.energy_j,
        simulated=not used.isdisjoint(problem.simulated),
        published=not used.isdisjoint(problem.published),
        extrapolated=not used.isdisjoint(problem.extrapolated),
    )


def mobilenet_entries(
    workspace: Workspace,
    run: SearchedRun,
    shape: tuple[int, int, int],
    classes: int,
    accuracies: dict[str, float],
) -> list[ComparisonEntry]:
    """Make the entries of every MobileNet under every baseline method over the topology of a run."""
    topology, found = general_topology(run.result.topology), []
    for name in mobilenets.NAMES:
        model = model_of_part(mobilenets.mobilenet(name, shape, classes), name, "")
        base = ComparisonEntry(
            network=name,
            method="",
            topology=run.topology,
            size=shape[1],
            accuracy=accuracies.get(name),
            parameters=model.parameters,
            macs=model.macs,
        )
        methods = {method: method for method in BASELINE_METHODS}
        found += _method_entries(workspace, model, topology, base, methods)
    return found


def training_config(run: SearchedRun) -> SearchConfig:
    """Configuration to train a MobileNet: the run's recipe, with all of its epochs as one stage."""
    given = {field.name: getattr(run.config, field.name) for field in fields(SearchConfig)}
    return SearchConfig(**{**given, "warmup_epochs": 0, "search_epochs": 0, "final_epochs": run.total_epochs})


def input_shape_and_classes(run: SearchedRun) -> tuple[tuple[int, int, int], int]:
    """Input shape and number of classes of a run's search space. Raises InputError."""
    model = model_of_run(run.result)
    channels, height, width = model.input_shape
    return (channels, height, width), model.units[-1].output_elements
