"""What a page about a run says, read from the run's folder and checked before anything is drawn."""

import itertools
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jmsnas.errors import InputError
from jmsnas.nas.graph.fork_join import MeshTree, mesh_tree
from jmsnas.nas.run_result import PlacedArchitecture, RunResult, read_result
from jmsnas.nas.search.run_folder import RunConfig, read_config, read_log
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.split.links import link_arrays
from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.report.device_data import DeviceData, LayerData, layer_data, read_device_data
from jmsnas.report.term_schedule import ScheduledTerm, shares
from jmsnas.space import Candidate
from jmsnas.topology import INPUT_BYTES, Link
from jmsnas.workspace import Workspace


@dataclass(frozen=True, slots=True)
class PlacedModel:
    """A network's operations, its T in seconds, every term of equation (1) or (2), and these in time."""

    candidates: tuple[Candidate, ...]
    latency_s: float
    terms: tuple[LatencyTerm, ...]
    shares: tuple[ScheduledTerm, ...]


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything the page about a finished run shows, read from the run's folder and the workspace.

    `tree` is that of a mesh, None of a chain; `back_s` the seconds from the last device back to the first,
    where the result goes back.
    """

    run: RunResult
    config: RunConfig
    epochs: tuple[EpochRecord, ...]
    devices: tuple[DeviceData, ...]
    tree: MeshTree | None
    back_s: float
    derived: PlacedModel
    argmax: PlacedModel
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
    def equation(self) -> str:
        """Number of the paper's equation for T."""
        return "(2)" if self.tree else "(1)"

    def cloud_way(self, input_encoding: str) -> tuple[Link, ...]:
        """Links of the fastest route of the raw input, in that encoding, to the last device."""
        names, links = [data.device.name for data in self.devices], self.run.topology.links
        way = link_arrays(names, links).route(0, len(names) - 1, self._raw_bytes(input_encoding), True)
        hops = {(link.source, link.target): link for link in links}
        return tuple(hops[names[a], names[b]] for a, b in itertools.pairwise(way))

    def _raw_bytes(self, input_encoding: str) -> float:
        own = INPUT_BYTES[self.run.topology.input_encoding]
        return self.run.cloud_only.input_bytes / own * INPUT_BYTES[input_encoding]

    def cloud_terms(self, input_encoding: str) -> tuple[LatencyTerm, ...]:
        """Terms of T when the last device receives the raw input, in that encoding, and runs every layer."""
        own, cloud = self.run.topology.input_encoding, self.run.cloud_only
        sending_s = sum(link.epsilon_s(cloud.input_bytes) for link in self.cloud_way(own))
        tau_s, sent_bytes = cloud.latency_s - sending_s - self.back_s, self._raw_bytes(input_encoding)
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
    run, config, epochs = read_result(folder), read_config(folder), read_log(folder)
    topology, space = run.topology, None
    with suppress(InputError):
        space = run.load_space(workspace)
    devices = tuple(
        read_device_data(workspace, device, run.estimators[device.name]) for device in topology.devices
    )
    derived, argmax = (_placed_model(run, placed) for placed in (run.derived, run.argmax))
    return ReportData(
        run=run,
        config=config,
        epochs=epochs,
        devices=devices,
        tree=mesh_tree(topology),
        back_s=_back_s(run) if topology.returns else 0.0,
        derived=derived,
        argmax=argmax,
        layers=layer_data(derived.candidates, derived.terms, run.space.layers, space, devices),
    )


def _placed_model(run: RunResult, placed: PlacedArchitecture) -> PlacedModel:
    blocks, tree, forked = run.blocks_of(placed), mesh_tree(run.topology), 0
    if tree:
        first = min(n for term in placed.terms if term.device in tree.children for n in term.layers)
        forked = blocks[first - 2].layer.output_elements
    laid_out = shares(placed.terms, run.topology.links, tree, forked)
    candidates = tuple(block.candidate for block in blocks)
    return PlacedModel(candidates, placed.latency_s, placed.terms, laid_out)


def _back_s(run: RunResult) -> float:
    """Seconds from the last device back to the first, over the same links in the other direction."""
    names, elements = list(run.estimators), run.blocks[-1].layer.output_elements
    return float(link_arrays(names, run.topology.links).routed_MM(4.0 * elements)[0][0, -1])
