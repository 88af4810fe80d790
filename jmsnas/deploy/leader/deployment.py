"""A whole deployment as the command line runs it: collect, solve, ship, run, compare."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from jmsnas.deploy.leader.agent_client import LostDevice
from jmsnas.deploy.leader.leader import Answer, ImageEncoding, Leader
from jmsnas.deploy.leader.load_run import FinishedRun
from jmsnas.deploy.leader.reference_models import references_for, rehearse
from jmsnas.deploy.leader.runtime_choice import Serving
from jmsnas.deploy.leader.serving_overhead import Served
from jmsnas.deploy.leader.solve_split import (
    Solved,
    fixed_space,
    predicted_again,
    sizes_to_measure,
    solve,
    without,
)
from jmsnas.deploy.parts.export import Exported
from jmsnas.deploy.parts.export_cache import kept_export
from jmsnas.deploy.parts.pieces import segment_layers
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.errors import DeployError
from jmsnas.nas.latency.build_lut import Predictor
from jmsnas.profiler.table.latency_table import Key
from jmsnas.progress import Progress, silent
from jmsnas.space import SearchSpace
from jmsnas.topology import Network

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

    run: FinishedRun
    leader: Leader
    network: Network
    predictors: Mapping[str, Predictor]
    segments: Mapping[str, Exported]
    say: Say
    links: dict[tuple[str, str], MeasuredLink] = field(default_factory=dict)
    solved: Solved | None = None
    lost: list[str] = field(default_factory=list)
    emulated: frozenset[str] = frozenset()
    paced: bool = False
    served: dict[str, Served] = field(default_factory=dict)
    keys: Mapping[str, Key] = field(default_factory=dict)

    def plan(self, cuts: Sequence[int] | None = None, rehearsed: bool = True) -> Solved:
        """Measure the links that are not known yet, solve for the split, rehearse it, ship it.

        A rehearsal takes seconds, and is left out where something is held back: it would learn that.

        Raises
        ------
        LostDevice
            When a device does not answer.
        TargetError
            When the policy allows no split.
        """
        pairs = [(link.source, link.target) for link in self.network.links]
        space = fixed_space(self.run.space, self.run.blocks)
        sizes = sizes_to_measure(space, self.network)
        new = [pair for pair in pairs if pair not in self.links]
        self.links |= self.leader.measure_links(new, sizes)
        links = self._as_paced() if self.paced else self.links
        solved = solve(space, self.network, self.predictors, links, cuts, self.served)
        solved = served_by(solved, self.keys)
        if rehearsed and not self.emulated and not self.paced:
            solved = self._rehearse(solved, space)
        solved = held_back(solved, self.emulated, self.paced)
        self.leader.ship(solved.pieces, self.segments, self.say)
        self.solved = solved
        return solved

    def _rehearse(self, solved: Solved, space: SearchSpace) -> Solved:
        """Predict the split anew, by what serving reference networks taught."""
        references = references_for(space, self.run.blocks, solved.pieces, self.predictors)
        if not references:
            return solved
        self.say("rehearsing the split with networks of the same geometry")
        served, self.links = rehearse(self.leader, solved.pieces, references, self.links)
        self.served |= served
        again = predicted_again(space, solved, self.predictors, self.links, self.served)
        return replace(again, pieces=solved.pieces)

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
            for link in self.network.links
        }

    def replan(self) -> None:
        """Do without the devices that are lost. Raises DeployError when the first one is, or all are."""
        lost = self.leader.lost()
        if not lost:
            return  # it is back: its part was on its disk
        self.say(f"lost: {', '.join(lost)}; solving again without")
        first = self.network.devices[0].name
        if first in lost or len(lost) == len(self.network.devices):
            raise DeployError(f"device {first} is lost, where the images are: nothing can go on")
        self.leader.drop(lost)
        self.lost += lost
        self.network = without(self.network, lost)
        self.plan(rehearsed=False)


def held_back(solved: Solved, emulated: frozenset[str], paced: bool) -> Solved:
    """Have emulated devices and paced links take as long as was predicted of them."""
    rates = {(link.source, link.target): link for link in solved.network.links}
    pieces = []
    for piece in solved.pieces:
        links = [rates[piece.device, target.device] for target in piece.targets]
        targets = tuple(
            replace(target, pace_bps=link.capacity_bps, pace_delay_s=link.delay_s) if paced else target
            for target, link in zip(piece.targets, links, strict=True)
        )
        pieces.append(
            replace(
                piece, targets=targets, hold_s=solved.tau_s[piece.device] if piece.device in emulated else 0.0
            )
        )
    return replace(solved, pieces=tuple(pieces))


def served_by(solved: Solved, keys: Mapping[str, Key]) -> Solved:
    """Have devices run their pieces as U(.) was profiled on them."""
    pieces = (replace(piece, key=keys.get(piece.device, piece.key)) for piece in solved.pieces)
    return replace(solved, pieces=tuple(pieces))


def deploy(
    run: FinishedRun,
    leader: Leader,
    network: Network,
    predictors: Mapping[str, Predictor],
    cache: Path,
    say: Say = lambda text: None,
    emulated: frozenset[str] = frozenset(),
    paced: bool = False,
    torch: Mapping[str, Serving] | None = None,
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
        network,
        predictors,
        segments,
        say,
        emulated=emulated,
        paced=paced,
        served={name: Served(seconds) for name, seconds in call_s.items() if name not in emulated},
        keys={name: serving.key for name, serving in torch.items()},
    )


def export_segments(run: FinishedRun, cache: Path) -> dict[str, Exported]:
    """Export a run's network: as one chain, or as trunk, branches and tail; kept in `cache`."""
    found: dict[str, Exported] = {}
    shape: tuple[int, ...] = (1, *run.space.input_shape)
    for name, layers in segment_layers(run.space).items():
        if name.startswith("branch"):
            shape = found["trunk"].shapes[-1]
        found[name] = kept_export(nn.Sequential(*(run.module[n] for n in layers)), shape, cache)
        found[name] = replace(found[name], blocks=tuple(run.blocks[n] for n in layers))
        shape = found[name].shapes[-1]
    return found


def run_images(
    deployment: Deployment,
    images: Sequence[Array],
    window: int,
    replan: bool = False,
    encoding: ImageEncoding = ImageEncoding(),  # noqa: B008 - frozen
    progress: Progress = silent,
) -> list[Answer]:
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
    answers: dict[int, Answer] = {}
    tries: Counter[int] = Counter()
    left, under_way = deque(range(len(images))), deque[tuple[int, int, Callable[[], Answer]]]()
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
            if isinstance(error, LostDevice) and epoch == deployment.leader.epoch:
                deployment.replan()
            time.sleep(0.05 * tries[n])
    return [answers[n] for n in range(len(images))]
