"""A whole deployment as the command line runs it: collect, solve, ship, run, compare."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

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
from jmsnas.errors import DeployError
from jmsnas.nas.latency.build_lut import Predictor
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.progress import Progress, no_progress
from jmsnas.space import SearchSpace
from jmsnas.topology import Topology

SCHEMA_VERSION = 1
# Answers that the undivided network gives in torch, and the parts in onnxruntime, may differ by that much.
TOLERANCE = 1e-4
_WARM_UP, _TIMEOUT_S, _TRIES = 20, 10.0, 8

Array = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(slots=True)
class Deployment:
    """A run on its devices: what was measured of them, the plan that serves, and what it was solved from.

    `predictors` is U(.) by device, `segments` the network in ONNX. `emulated` devices
    answer no sooner than that; `paced` links take no less than the network's own say. `served` is what
    serving adds to U(.) on each device: a call, as it measured it itself, until a rehearsal tells more.
    `keys` says what runs the parts, where it is not onnxruntime.
    """

    run: TrainedRun
    leader: Leader
    topology: Topology
    predictors: Mapping[str, Predictor]
    segments: Mapping[str, ExportedModel]
    log: Say
    links: dict[tuple[str, str], MeasuredLink] = field(default_factory=dict)
    planned: PlannedSplit | None = None
    lost: list[str] = field(default_factory=list)
    emulated: frozenset[str] = frozenset()
    paced: bool = False
    served: dict[str, ServingOverhead] = field(default_factory=dict)
    keys: Mapping[str, RuntimeKey] = field(default_factory=dict)

    def plan(self, cuts: Sequence[int] | None = None, rehearsed: bool = True) -> PlannedSplit:
        """Measure the links that are not known yet, solve for the split, rehearse it, ship it.

        A rehearsal takes seconds, and is left out where something is held back: it would learn that.

        Raises
        ------
        LostDevice
            When a device does not answer.
        TargetError
            When the policy allows no split.
        """
        pairs = [(link.source, link.target) for link in self.topology.links]
        space = single_model_space(self.run.space, self.run.blocks)
        sizes = link_probe_sizes(space, self.topology)
        new = [pair for pair in pairs if pair not in self.links]
        self.links |= self.leader.measure_links(new, sizes)
        links = self._as_paced() if self.paced else self.links
        solved = solve_split(space, self.topology, self.predictors, links, cuts, self.served)
        solved = with_keys(solved, self.keys)
        if rehearsed and not self.emulated and not self.paced:
            solved = self._rehearse(solved, space)
        solved = with_emulated_latency(solved, self.emulated, self.paced)
        self.leader.ship(solved.part_specs, self.segments, self.log)
        self.planned = solved
        return solved

    def _rehearse(self, solved: PlannedSplit, space: SearchSpace) -> PlannedSplit:
        """Predict the split anew, by what serving reference networks taught."""
        references = reference_models(space, self.run.blocks, solved.part_specs, self.predictors)
        if not references:
            return solved
        self.log("rehearsing the split with networks of the same geometry")
        served, self.links = measure_serving_overhead(self.leader, solved.part_specs, references, self.links)
        self.served |= served
        again = repredict(space, solved, self.predictors, self.links, self.served)
        return replace(again, part_specs=solved.part_specs)

    def _as_paced(self) -> dict[tuple[str, str], MeasuredLink]:
        """Give the links as the network declares them."""
        return {
            (link.source, link.target): replace(
                self.links[link.source, link.target],
                a_s=link.delay_s,
                b_s=8 / link.capacity_bps,
                sizes=(),
                medians_s=(),
            )
            for link in self.topology.links
        }

    def replan(self) -> None:
        """Do without the devices that are lost. Raises DeployError when the first one is, or all are."""
        lost = self.leader.lost()
        if not lost:
            return  # it is back: its part was on its disk
        self.log(f"lost: {', '.join(lost)}; solving again without")
        first = self.topology.devices[0].name
        if first in lost or len(lost) == len(self.topology.devices):
            raise DeployError(f"device {first} is lost, where the images are: nothing can go on")
        self.leader.drop(lost)
        self.lost += lost
        self.topology = without_devices(self.topology, lost)
        self.plan(rehearsed=False)


def with_emulated_latency(solved: PlannedSplit, emulated: frozenset[str], paced: bool) -> PlannedSplit:
    """Have emulated devices and paced links take as long as was predicted of them."""
    rates = {(link.source, link.target): link for link in solved.topology.links}
    part_specs = []
    for part_spec in solved.part_specs:
        links = [rates[part_spec.device, target.device] for target in part_spec.next_hops]
        targets = tuple(
            replace(target, pace_bps=link.capacity_bps, pace_delay_s=link.delay_s) if paced else target
            for target, link in zip(part_spec.next_hops, links, strict=True)
        )
        part_specs.append(
            replace(
                part_spec,
                next_hops=targets,
                hold_s=solved.tau_s[part_spec.device] if part_spec.device in emulated else 0.0,
            )
        )
    return replace(solved, part_specs=tuple(part_specs))


def with_keys(solved: PlannedSplit, keys: Mapping[str, RuntimeKey]) -> PlannedSplit:
    """Have devices run their pieces as U(.) was profiled on them."""
    part_specs = (
        replace(part_spec, key=keys.get(part_spec.device, part_spec.key)) for part_spec in solved.part_specs
    )
    return replace(solved, part_specs=tuple(part_specs))


def prepare_deployment(
    run: TrainedRun,
    leader: Leader,
    topology: Topology,
    predictors: Mapping[str, Predictor],
    cache: Path,
    log: Say = lambda text: None,
    emulated: frozenset[str] = frozenset(),
    paced: bool = False,
    torch: Mapping[str, RuntimeChoice] | None = None,
) -> Deployment:
    """Make a deployment; `plan` measures, solves and ships.

    `cache` is where exports are kept; `torch` has the devices whose parts it runs.
    """
    told, torch = leader.collect(), torch or {}
    call_s = {name: float(told[name]["call_s"]) for name in told}
    call_s |= {name: serving.call_s for name, serving in torch.items()}
    segments = export_segments(run, cache)
    return Deployment(
        run,
        leader,
        topology,
        predictors,
        segments,
        log,
        emulated=emulated,
        paced=paced,
        served={name: ServingOverhead(seconds) for name, seconds in call_s.items() if name not in emulated},
        keys={name: serving.key for name, serving in torch.items()},
    )


def export_segments(run: TrainedRun, cache: Path) -> dict[str, ExportedModel]:
    """Export a run's network: as one chain, or as trunk, branches and tail; kept in `cache`."""
    found: dict[str, ExportedModel] = {}
    shape: tuple[int, ...] = (1, *run.space.input_shape)
    for name, layers in segment_layers(run.space).items():
        if name.startswith("branch"):
            shape = found["trunk"].shapes[-1]
        found[name] = cached_export(nn.Sequential(*(run.module[n] for n in layers)), shape, cache)
        found[name] = replace(found[name], blocks=tuple(run.blocks[n] for n in layers))
        shape = found[name].shapes[-1]
    return found


def run_images(
    deployment: Deployment,
    images: Sequence[Array],
    window: int,
    replan: bool = False,
    encoding: ImageEncoding = ImageEncoding(),  # noqa: B008 - frozen
    progress: Progress = no_progress,
) -> list[Response]:
    """Send images, `window` under way at once, and give their answers in order.

    Parameters
    ----------
    replan
        When a device is lost, solve again without it and send what was not answered once more; else the
        error is raised.

    Raises
    ------
    LostDevice, DeployError
        When a device is lost and `replan` is not wanted, or an image fails again and again.
    """
    answers: dict[int, Response] = {}
    tries: Counter[int] = Counter()
    left, under_way = deque(range(len(images))), deque[tuple[int, int, Callable[[], Response]]]()
    while left or under_way:
        while left and len(under_way) < window:
            n = left.popleft()
            epoch, wait = deployment.leader.epoch, deployment.leader.start(images[n], _TIMEOUT_S, encoding)
            under_way.append((n, epoch, wait))
        n, epoch, wait = under_way.popleft()
        try:
            answers[n] = wait()
            progress(len(answers), len(images), "images")
        except DeployError as error:
            tries[n] += 1
            if not replan or tries[n] > _TRIES:
                raise
            left.appendleft(n)
            # Others that were under way by the lost plan fail too: one new plan is enough.
            if isinstance(error, DeviceLostError) and epoch == deployment.leader.epoch:
                deployment.replan()
            time.sleep(0.05 * tries[n])
    return [answers[n] for n in range(len(images))]
