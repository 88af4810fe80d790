"""Timeline of one placement: start and duration of every computation and transfer, period and energy."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.errors import TopologyError
from jmsnas.nas.split.links import LinkArrays
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.serial.fan_out import sending_order


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """Consecutive units computed on a device by one call, or an output sent over one link.

    `target` is empty for a computation. `units` are counted from 1 (of a transfer: the one output, where 0 is
    the raw input, or the outputs that were joined before); `low_s` and `high_s` bound `seconds`; `sent_bytes`
    cross the link. `call_s`: seconds of the call, within those of a computation.
    """

    device: str
    target: str
    units: tuple[int, ...]
    start_s: float
    seconds: float
    low_s: float
    high_s: float
    sent_bytes: float = 0.0
    call_s: float = 0.0

    @property
    def end_s(self) -> float:
        """Second at which the step ends."""
        return self.start_s + self.seconds


@dataclass(frozen=True, slots=True)
class Timeline:
    """All steps of a placement, its T, period (seconds between two images), and energy in joules.

    `critical_path` are the steps that make up T: each begins when the one before it ends. `return_steps` send
    the result back to the first device, where it is sent back: part of T, not of the period or the energy.
    `energy_j` is None where no device has a known power.
    """

    steps: tuple[TimelineStep, ...]
    critical_path: tuple[TimelineStep, ...]
    latency_s: float
    low_s: float
    high_s: float
    period_s: float
    energy_j: float | None
    return_steps: tuple[TimelineStep, ...] = ()


def result_device(problem: SplitProblem, policy: str) -> int | None:
    """Device that needs the result: the last one, or None where the result may stay."""
    return None if policy == "stop-early" else problem.M - 1


def objective_value(timeline: Timeline, objective: str) -> float:
    """Value that an objective minimises: T, seconds between images, or joules."""
    if objective == "energy":
        return math.inf if timeline.energy_j is None else timeline.energy_j
    return timeline.latency_s if objective == "latency" else timeline.period_s


def compute_timeline(
    problem: SplitProblem, encoding: str, devices: Sequence[int], target: int | None
) -> Timeline:
    """Compute the timeline of one image through a placement, by the rules of dag.py. Raises TopologyError."""
    end_s, steps, critical_path = _Schedule(problem, problem.tau_NM, encoding, devices).run(target)
    low_s, high_s = (
        _Schedule(problem, tau_NM, encoding, devices).run(target)[0]
        for tau_NM in (problem.low_NM, problem.high_NM)
    )
    return_steps = _return_steps(problem, devices[-1] if target is None else target, end_s)
    return_s = sum(step.seconds for step in return_steps)
    return Timeline(
        steps=steps,
        critical_path=(*critical_path, *return_steps),
        latency_s=end_s + return_s,
        low_s=low_s + return_s,
        high_s=high_s + return_s,
        period_s=_period(steps),
        energy_j=_energy(problem, steps),
        return_steps=return_steps,
    )


def _return_steps(problem: SplitProblem, device: int, at_s: float) -> tuple[TimelineStep, ...]:
    """Send the result from a device to the first, over the same links in reverse."""
    if not problem.returns:
        return ()
    links, size, found = problem.link_arrays, float(problem.output_bytes_N[-1]), list[TimelineStep]()
    for b, a in itertools.pairwise(reversed(links.route(0, device, size))):
        sent = _transfer(problem, links, (problem.N,), size, (a, b), at_s)
        found.append(replace(sent, device=sent.target, target=sent.device))
        at_s += sent.seconds
    return tuple(found)


def _transfer(
    problem: SplitProblem,
    links: LinkArrays,
    outputs: tuple[int, ...],
    size: float,
    hop: tuple[int, int],
    at_s: float,
) -> TimelineStep:
    """Send an output over one link; in the link's number format, the raw input as it is encoded."""
    raw = outputs == (0,)
    seconds = float(links.epsilon_MM(size, raw)[hop])
    share = 1.0 if raw else float(links.per_byte_MM[hop] / links.input_per_byte_MM[hop])
    source, target = (problem.names[m] for m in hop)
    return TimelineStep(source, target, outputs, at_s, seconds, seconds, seconds, size * share)


def _end_s(step: TimelineStep | None) -> float:
    return step.end_s if step else 0.0


class _Schedule:
    """Steps of one image as they are scheduled, and the step that each of them waits for (by id)."""

    def __init__(
        self, problem: SplitProblem, tau_NM: FloatArray, encoding: str, devices: Sequence[int]
    ) -> None:
        self.problem, self.tau_NM, self.devices = problem, tau_NM, devices
        self.links, self.sent_bytes_L = problem.link_arrays, problem.sent_bytes_L(encoding)
        self.copies_to = _copies(problem, devices, self.sent_bytes_L)
        self.steps: list[TimelineStep] = []
        self.waits_for: dict[int, TimelineStep | None] = {}
        # The step after which output i is on device m; None: the raw input on the first device.
        self.arrived: dict[tuple[int, int], TimelineStep | None] = {(0, 0): None}
        # Outputs that units of a device have read (see `Dag.calls_K`).
        self.read: set[tuple[int, int]] = set()

    def run(self, target: int | None) -> tuple[float, tuple[TimelineStep, ...], tuple[TimelineStep, ...]]:
        """Schedule all units and transfers; returns T (without return), all steps, and the critical path."""
        problem, free = self.problem, dict[int, TimelineStep]()
        for n, outputs in enumerate(problem.inputs, 1):
            m = self.devices[n - 1]
            joined = self._joins_before(n, m)
            brought = [self._bring_joined(outputs, m)] if joined else [self._bring(i, m) for i in outputs]
            last = max([*brought, free.get(m)], key=_end_s)
            seconds, low_s, high_s = (
                float(part_NM[n - 1, m]) for part_NM in (self.tau_NM, problem.low_NM, problem.high_NM)
            )
            call_s = self._call_s(outputs, m)
            seconds, low_s, high_s = seconds + call_s, low_s + call_s, high_s + call_s
            step = TimelineStep(
                problem.names[m], "", (n,), _end_s(last), seconds, low_s, high_s, call_s=call_s
            )
            free[m] = self.arrived[n, m] = self._add(step, last)
        end = self.steps[-1] if target is None else self._bring(problem.N, target)
        end_s, path = _end_s(end), list[TimelineStep]()
        while end is not None:
            path.append(end)
            end = self.waits_for[id(end)]
        return end_s, _merge_units(self.steps), _merge_units(path[::-1])

    def _call_s(self, outputs: Sequence[int], m: int) -> float:
        """Seconds of a call of device m for a unit that reads these outputs; 0 where it needs none."""
        received = {(i, m) for i in outputs if i == 0 or self.devices[i - 1] != m}
        call_s = self.problem.devices[m].call_s if received - self.read else 0.0
        self.read |= received
        return call_s

    def _add(self, step: TimelineStep, last: TimelineStep | None) -> TimelineStep:
        self.steps.append(step)
        self.waits_for[id(step)] = last
        return step

    def _joins_before(self, n: int, m: int) -> bool:
        """Whether unit n joins the branches of a mesh on a device m behind the one that they are sent to."""
        fork, tree, names = self.problem.fork, self.problem.tree, self.problem.names
        if not fork or not tree or n != fork.tail.start + 1 or names[m] in tree.children:
            return False
        ends = {names[self.devices[branch[-1]]] for branch in fork.branches}
        return ends <= set(tree.children) and m > self.problem.join_device

    def _bring_joined(self, outputs: Sequence[int], m: int) -> TimelineStep | None:
        """Join outputs on the device behind the branches, and send them on as one."""
        problem, join = self.problem, self.problem.join_device
        last, size = max((self._bring(i, join) for i in outputs), key=_end_s), problem.joined_bytes
        for hop in itertools.pairwise(self.links.route(join, m, size)):
            sent = _transfer(problem, self.links, tuple(outputs), size, hop, _end_s(last))
            last = self._add(sent, last)
        return last

    def _bring(self, i: int, m: int) -> TimelineStep | None:
        """Send output i to device m unless it is there; returns the step after which it is."""
        if (i, m) in self.arrived:
            return self.arrived[i, m]
        names, source = self.problem.names, self.devices[i - 1] if i else 0
        size, links = float(self.sent_bytes_L[i]), self.links
        route = links.route(source, m, size, i == 0)
        if not route:
            raise TopologyError(f"no route leads from {names[source]} to {names[m]}: expected a link")
        for a, b in itertools.pairwise(route):
            last, copies = self.arrived[i, a], self.copies_to.get((i, a), ())
            for c in () if (i, b) in self.arrived else copies if b in copies else (b,):
                sent = _transfer(self.problem, links, (i,), size, (a, c), _end_s(last))
                last = self.arrived[i, c] = self._add(sent, last)
        return self.arrived[i, m]


def _copies(
    problem: SplitProblem, devices: Sequence[int], sent_bytes_L: FloatArray
) -> dict[tuple[int, int], tuple[int, ...]]:
    """Children that a root sends the trunk's output to one by one (serial fan-out).

    The child whose branch takes longest from there to the join is sent to first (see serial/fan_out.py).
    """
    fork, tree = problem.fork, problem.tree
    if not fork or not tree or tree.fan_out != "serial":
        return {}
    children = [problem.names.index(name) for name in tree.children]
    join, tails = problem.join_device, dict[int, float]()
    for branch in fork.branches:
        own = [devices[n] for n in branch]
        if own[0] in children:
            sent_s = problem.link_arrays.routed_MM(float(sent_bytes_L[branch.stop]))[0][own[-1], join]
            call_s = problem.devices[own[0]].call_s
            tail_s = float(sum(problem.tau_NM[list(branch), own]) + call_s + sent_s)
            tails[own[0]] = max(tail_s, tails.get(own[0], 0.0))
    order = sending_order(np.array(list(tails.values())))
    return {(fork.trunk.stop, problem.names.index(tree.root)): tuple(list(tails)[n] for n in order)}


def _merge_units(steps: Sequence[TimelineStep]) -> tuple[TimelineStep, ...]:
    """Merge the steps of consecutive units on a device."""
    found: list[TimelineStep] = []
    for step in steps:
        before = found[-1] if found else None
        joins = before and not step.target and not before.target and step.device == before.device
        if before and joins and not step.call_s:
            found[-1] = replace(
                before,
                units=before.units + step.units,
                seconds=step.end_s - before.start_s,
                low_s=before.low_s + step.low_s,
                high_s=before.high_s + step.high_s,
            )
        else:
            found.append(step)
    return tuple(found)


def _period(steps: Sequence[TimelineStep]) -> float:
    """Busy seconds per image of the busiest device or link."""
    busy: dict[tuple[str, str], float] = {}
    for step in steps:
        busy[step.device, step.target] = busy.get((step.device, step.target), 0.0) + step.seconds
    return max(busy.values())


def _energy(problem: SplitProblem, steps: Sequence[TimelineStep]) -> float | None:
    """Joules per image of the devices with a known power; None where no device has one."""
    if not problem.power_w_M.any():
        return None
    total_j = 0.0
    for step in steps:
        watts_M = problem.send_power_w_M if step.target else problem.power_w_M
        total_j += float(watts_M[problem.names.index(step.device)]) * (step.seconds - step.call_s)
    return total_j
