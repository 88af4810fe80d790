"""Run a deployment: measure links, solve the split, ship parts, send images, re-plan after a device loss."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from jmsnas.arrays import Float32Array
from jmsnas.deploy.leader.agent_client import DeviceLostError
from jmsnas.deploy.leader.leader import ImageEncoding, Leader, Response
from jmsnas.deploy.leader.load_run import TrainedRun
from jmsnas.deploy.leader.reference_models import measure_serving_overhead, reference_models
from jmsnas.deploy.leader.runtime_choice import RuntimeChoice
from jmsnas.deploy.leader.serving_overhead import ServingOverhead
from jmsnas.deploy.leader.solve_split import (
    PlannedSplit,
    link_probe_sizes,
    repredict,
    single_model_space,
    solve_split,
    without_devices,
)
from jmsnas.deploy.parts.export import ExportedModel, cached_export
from jmsnas.deploy.parts.shipment import segment_layers
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.errors import DeployError, InfeasibleError, TopologyError
from jmsnas.nas.latency.build_lut import Predictor
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.progress import Progress, no_progress
from jmsnas.space import SearchSpace
from jmsnas.topology import Topology

_TIMEOUT_S, _TRIES = 10.0, 8

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Emulation:
    """Devices that respond no sooner than predicted, and whether links are paced to their declared rates."""

    devices: frozenset[str] = frozenset()
    paced: bool = False


@dataclass(slots=True)
class Deployment:
    """A model deployed on devices.

    Attributes
    ----------
    run, segments
        The trained run, and its model exported to ONNX, by segment.
    leader
        Connection to the agents.
    topology
        Devices in use, and declared links.
    predictors
        U(.) by device.
    emulation
        Emulated devices and links.
    runtime_keys
        Runtime of a device's part, where it is not onnxruntime.
    overheads
        Serving overhead by device: that of one call, until `plan` measures it with reference models.
    links
        Measured links.
    planned
        The shipped split; None before `plan`.
    lost
        Devices lost so far.
    repeated
        Number of failed requests that were sent again.
    """

    run: TrainedRun
    segments: Mapping[str, ExportedModel]
    leader: Leader
    topology: Topology
    predictors: Mapping[str, Predictor]
    log: Log
    emulation: Emulation
    runtime_keys: Mapping[str, RuntimeKey]
    overheads: dict[str, ServingOverhead]
    links: dict[tuple[str, str], MeasuredLink] = field(default_factory=dict)
    planned: PlannedSplit | None = None
    lost: list[str] = field(default_factory=list)
    repeated: int = 0

    def plan(self, cuts: Sequence[int] | None = None, measure_overhead: bool = True) -> PlannedSplit:
        """Measure the links not known yet, solve the split, measure the serving overhead, ship the parts.

        Measuring the overhead takes seconds, and is skipped for an emulation, whose delays it would include.
        Raises DeviceLostError when a device does not respond, TopologyError or InfeasibleError when the
        policy and the limits allow no split, and DeployError when they allow none without the lost devices.
        """
        pairs = [(link.source, link.target) for link in self.topology.links]
        space = single_model_space(self.run.space, self.run.blocks)
        sizes = link_probe_sizes(space, self.topology)
        new = [pair for pair in pairs if pair not in self.links]
        # Not in place: responses are timed by other threads meanwhile.
        self.links = self.links | self.leader.measure_links(new, sizes)
        emulated = self.emulation.devices or self.emulation.paced
        links = self._declared_links() if self.emulation.paced else self.links
        try:
            split = solve_split(space, self.topology, self.predictors, links, cuts, self.overheads)
        except (TopologyError, InfeasibleError) as error:
            if not self.lost:
                raise
            raise DeployError(
                f"device {', '.join(self.lost)} is lost, and no plan is possible without it ({error}). "
                "Start its agent again, see jmsnas doctor"
            ) from error
        split = with_runtime_keys(split, self.runtime_keys)
        if measure_overhead and not emulated:
            split = self._with_measured_overhead(split, space)
        split = with_emulated_latency(split, self.emulation)
        self.leader.ship(split.part_specs, self.segments, self.log)
        self.planned = split
        if self.lost:
            layers = (f"{part.device} {part.layer_range or '(relay)'}" for part in split.part_specs)
            self.log(f"plan {self.leader.epoch} without {', '.join(self.lost)}: layers {', '.join(layers)}")
        return split

    def _with_measured_overhead(self, split: PlannedSplit, space: SearchSpace) -> PlannedSplit:
        """Measure the serving overhead with reference models, and predict the split again."""
        references = reference_models(space, self.run.blocks, split.part_specs, self.predictors)
        if not references:
            return split
        self.log("measuring the serving overhead with reference models of the same geometry")
        overheads, self.links = measure_serving_overhead(
            self.leader, split.part_specs, references, self.links
        )
        self.overheads |= overheads
        again = repredict(space, split, self.predictors, self.links, self.overheads)
        return replace(again, part_specs=split.part_specs)

    def _declared_links(self) -> dict[tuple[str, str], MeasuredLink]:
        """Return the links with the rates and delays of the topology file, and the measured clock offsets."""
        links = {}
        for link in self.topology.links:
            pair, b_s = (link.source, link.target), 8 / link.capacity_bps
            links[pair] = replace(self.links[pair], a_s=link.delay_s, b_s=b_s, sizes=(), medians_s=())
        return links

    def replan(self, unreachable: str = "") -> None:
        """Plan again without the lost devices, and those lost meanwhile; keep the plan if none is lost.

        `unreachable` names a device that is lost too, though it passes the health check, as others do not
        reach it. Raises DeployError when no plan is possible without them, or devices keep failing.
        """
        for attempt in range(_TRIES):
            self.topology, lost = drop_lost_devices(self.leader, self.topology, self.log, unreachable)
            self.lost += lost
            if lost:
                self.planned = None
            if self.planned is not None:
                return  # the device is back, with its part from its disk
            try:
                self.plan(measure_overhead=False)
                return
            except DeviceLostError as error:
                if attempt == _TRIES - 1:
                    raise
                unreachable = unreachable_device(error, attempt + 1)


def unreachable_device(error: DeviceLostError, failures: int) -> str:
    """Return the name of a device after several failures in a row, when its link may be cut; else nothing."""
    return error.device if failures >= _TRIES // 2 else ""


def drop_lost_devices(
    leader: Leader, topology: Topology, log: Log, unreachable: str = ""
) -> tuple[Topology, list[str]]:
    """Disconnect the devices that fail a health check; return the topology without them, and their names.

    If all pass it, `unreachable` is lost, where it is not empty. Raises DeployError when no plan is possible
    without the lost devices.
    """
    lost = leader.lost() or [name for name in leader.clients if name == unreachable]
    if not lost:
        return topology, []
    log(f"lost: {', '.join(lost)}; solving the split again without")
    topology = without_devices(topology, lost)
    leader.drop(lost)
    return topology, lost


def with_emulated_latency(split: PlannedSplit, emulation: Emulation) -> PlannedSplit:
    """Make the parts of emulated devices, and paced links, take as long as predicted."""
    part_specs = []
    for part in split.part_specs:
        hops = part.next_hops
        if emulation.paced:
            own = [split.topology.link(part.device, hop.device) for hop in hops]
            hops = tuple(
                replace(hop, pace_bps=link.capacity_bps, pace_delay_s=link.delay_s)
                for hop, link in zip(hops, own, strict=True)
            )
        hold_s = split.tau_s[part.device] if part.device in emulation.devices else 0.0
        part_specs.append(replace(part, next_hops=hops, hold_s=hold_s))
    return replace(split, part_specs=tuple(part_specs))


def with_runtime_keys(split: PlannedSplit, keys: Mapping[str, RuntimeKey]) -> PlannedSplit:
    """Set the runtime of each device's part, where `keys` has one."""
    part_specs = (replace(part, key=keys.get(part.device, part.key)) for part in split.part_specs)
    return replace(split, part_specs=tuple(part_specs))


def prepare_deployment(
    run: TrainedRun,
    leader: Leader,
    predictors: Mapping[str, Predictor],
    cache: Path,
    log: Log = lambda text: None,
    emulation: Emulation = Emulation(),  # noqa: B008 - frozen
    torch: Mapping[str, RuntimeChoice] | None = None,
    lost: Sequence[str] = (),
) -> Deployment:
    """Export a run's model, and prepare its deployment on the run's topology; call `plan` next.

    `cache` is the folder of exports; `torch` has the devices whose parts run under torch; `lost` names the
    devices that were removed from the topology.
    """
    torch = torch or {}
    call_s = {name: info.call_s for name, info in leader.describe().items()}
    call_s |= {name: choice.call_s for name, choice in torch.items()}
    return Deployment(
        run=run,
        segments=export_segments(run, cache),
        leader=leader,
        topology=run.topology,
        predictors=predictors,
        log=log,
        emulation=emulation,
        runtime_keys={name: choice.key for name, choice in torch.items()},
        overheads={name: ServingOverhead(s) for name, s in call_s.items() if name not in emulation.devices},
        lost=list(lost),
    )


def export_segments(run: TrainedRun, cache: Path) -> dict[str, ExportedModel]:
    """Export a run's model to ONNX, as one chain, or as trunk, branches and tail; kept in `cache`."""
    exported: dict[str, ExportedModel] = {}
    shape: tuple[int, ...] = (1, *run.space.input_shape)
    for name, layers in segment_layers(run.space).items():
        if name.startswith("branch"):
            shape = exported["trunk"].shapes[-1]
        module = nn.Sequential(*(run.module[n] for n in layers))
        blocks = tuple(run.blocks[n] for n in layers)
        exported[name] = replace(cached_export(module, shape, cache), blocks=blocks)
        shape = exported[name].shapes[-1]
    return exported


def run_images(
    deployment: Deployment,
    images: Sequence[Float32Array],
    window: int,
    replan: bool = False,
    encoding: ImageEncoding = ImageEncoding(),  # noqa: B008 - frozen
    progress: Progress = no_progress,
) -> list[Response]:
    """Send images, at most `window` in flight, and return the responses in order.

    When a device is lost, `replan` plans again without it and repeats the failed requests. Raises
    DeviceLostError or DeployError without `replan`, or when an image fails more than eight times.
    """
    responses: dict[int, Response] = {}
    tries: Counter[int] = Counter()
    waiting, in_flight = deque(range(len(images))), deque[tuple[int, int, Callable[[], Response]]]()
    while waiting or in_flight:
        while waiting and len(in_flight) < window:
            n = waiting.popleft()
            epoch, wait = deployment.leader.epoch, deployment.leader.start(images[n], _TIMEOUT_S, encoding)
            in_flight.append((n, epoch, wait))
        n, epoch, wait = in_flight.popleft()
        try:
            responses[n] = wait()
            progress(len(responses), len(images), "images")
        except DeployError as error:
            tries[n] += 1
            if not replan or tries[n] > _TRIES:
                raise
            waiting.appendleft(n)
            deployment.repeated += 1
            # Other requests in flight by the same plan fail too: plan once.
            if isinstance(error, DeviceLostError) and epoch == deployment.leader.epoch:
                deployment.replan(unreachable_device(error, tries[n]))
            time.sleep(0.05 * tries[n])
    return [responses[n] for n in range(len(images))]
