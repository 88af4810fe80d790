"""Data of the report page, read from a run's folder and the workspace."""

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
from jmsnas.report.term_schedule import ScheduledTerm, schedule_terms
from jmsnas.space import Candidate
from jmsnas.topology import INPUT_BYTES, Link
from jmsnas.workspace import Workspace


@dataclass(frozen=True, slots=True)
class PlacedModel:
    """A model placed on devices: candidates, T in seconds, terms of equation (1) or (2), their schedule."""

    candidates: tuple[Candidate, ...]
    latency_s: float
    terms: tuple[LatencyTerm, ...]
    schedule: tuple[ScheduledTerm, ...]


@dataclass(frozen=True, slots=True)
class ReportData:
    """Data of the report page of a finished run.

    `tree` is None on a chain; `return_s` is the time to return the result from the last device to the first,
    0 if it is not returned.
    """

    run: RunResult
    config: RunConfig
    epochs: tuple[EpochRecord, ...]
    devices: tuple[DeviceData, ...]
    tree: MeshTree | None
    return_s: float
    derived: PlacedModel
    argmax: PlacedModel
    layers: tuple[LayerData, ...]

    @property
    def simulated(self) -> tuple[str, ...]:
        """Names of the simulated devices, in order."""
        return tuple(d.device.name for d in self.devices if d.simulated)

    @property
    def published(self) -> tuple[str, ...]:
        """Names of the devices whose U(.) is of a published table, in order."""
        return tuple(d.device.name for d in self.devices if d.published)

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the measured devices, in order."""
        return tuple(d.device.name for d in self.devices if d.origin == "measured")

    @property
    def equation(self) -> str:
        """Number of the paper's equation for T."""
        return "(2)" if self.tree else "(1)"

    def cloud_route(self, input_encoding: str) -> tuple[Link, ...]:
        """Return the links of the fastest route of the raw input, in that encoding, to the last device."""
        names, links = [device.device.name for device in self.devices], self.run.topology.links
        route = link_arrays(names, links).route(0, len(names) - 1, self._raw_bytes(input_encoding), True)
        hops = {(link.source, link.target): link for link in links}
        return tuple(hops[names[a], names[b]] for a, b in itertools.pairwise(route))

    def _raw_bytes(self, input_encoding: str) -> float:
        own = INPUT_BYTES[self.run.topology.input_encoding]
        return self.run.cloud_only.input_bytes / own * INPUT_BYTES[input_encoding]

    def cloud_terms(self, input_encoding: str) -> tuple[LatencyTerm, ...]:
        """Return the terms of T of cloud only, with the raw input sent in that encoding."""
        own, cloud = self.run.topology.input_encoding, self.run.cloud_only
        sending_s = sum(link.epsilon_s(cloud.input_bytes) for link in self.cloud_route(own))
        device, sent_bytes = self.run.topology.devices[-1], self._raw_bytes(input_encoding)
        tau_s = cloud.latency_s - sending_s - self.return_s - device.call_s
        route = self.cloud_route(input_encoding)
        relays = tuple(LatencyTerm(k.source, (), 0.0, k.epsilon_s(sent_bytes), sent_bytes) for k in route)
        everything = tuple(range(1, len(self.derived.candidates) + 1))
        own_terms = {"return_s": self.return_s, "call_s": device.call_s}
        return (*relays, LatencyTerm(device.name, everything, tau_s, 0.0, 0.0, **own_terms))


def read_report_data(workspace: Workspace, folder: Path) -> ReportData:
    """Read the data of a finished run from its folder, and the workspace's current estimators.

    Raises InputError when the folder holds no finished run, or a file of it is damaged.
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
        return_s=_return_s(run) if topology.returns else 0.0,
        derived=derived,
        argmax=argmax,
        layers=layer_data(derived.candidates, derived.terms, run.space.layers, space, devices),
    )


def _placed_model(run: RunResult, placed: PlacedArchitecture) -> PlacedModel:
    blocks, tree, forked = run.blocks_of(placed), mesh_tree(run.topology), 0
    if tree:
        first = min(n for term in placed.terms if term.device in tree.children for n in term.layers)
        forked = blocks[first - 2].layer.output_elements
    schedule = schedule_terms(placed.terms, run.topology.links, tree, forked)
    candidates = tuple(block.candidate for block in blocks)
    return PlacedModel(candidates, placed.latency_s, placed.terms, schedule)


def _return_s(run: RunResult) -> float:
    """Return the seconds of the result from the last device to the first, over the links in reverse."""
    names, elements = list(run.estimators), run.blocks[-1].layer.output_elements
    return float(link_arrays(names, run.topology.links).routed_MM(4.0 * elements)[0][0, -1])
